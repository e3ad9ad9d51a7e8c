// What pgBackRest says when it has verified a repository. Its exit status is 0 whatever it found.

import Foundation

/// The result of `pgbackrest verify --output=text --verbose`.
struct RepositoryReport: Sendable, Equatable {
    /// Files that were checked.
    var files = 0
    /// What is wrong.
    var faults: [String] = []

    /// Files that are named, of each kind of fault; the others are counted.
    private static let named = 5

    // P01   INFO: invalid checksum '20261127-172118F/pg_data/base/5/2654.zst'
    // P01   INFO: invalid result 15-1/0000000100000000/000000010000000000000006-72b0…zst: [29] raised from …
    // stanza: zegel-a
    // status: error
    //   archiveId: 15-1, total WAL checked: 7, total valid WAL: 6
    //     missing: 0, checksum invalid: 0, size invalid: 0, other: 1
    //   backup: 20261127-172118F, status: invalid, total files checked: 964, total valid files: 963
    //     missing: 0, checksum invalid: 1, size invalid: 0, other: 0
    init(_ text: String) {
        let lines = text.split(separator: "\n")
        // It comes twice: behind what is logged, and alone.
        let report = lines.lastIndex { $0.hasPrefix("stanza: ") } ?? 0
        var status: String?
        var subject = ""
        for raw in lines[report...] {
            let line = raw.drop { $0 == " " }
            if line.hasPrefix("status: ") { status = String(line.dropFirst(8)) }
            if line.hasPrefix("archiveId: ") || line.hasPrefix("backup: ") {
                let fields = Self.fields(line)
                files += fields.compactMap { $0.name.hasSuffix("checked") ? Int($0.value) : nil }.reduce(0, +)
                subject =
                    line.hasPrefix("archiveId") ? "the archived WAL" : "backup \(fields.first?.value ?? "?")"
            }
            guard
                ["missing: ", "checksum invalid: ", "size invalid: ", "other: "].contains(
                    where: line.hasPrefix)
            else { continue }
            for field in Self.fields(line) {
                guard let count = Int(field.value), count > 0 else { continue }
                let what =
                    switch field.name {
                    case "missing": "missing"
                    case "other": "not readable"
                    default: "damaged (\(field.name))"
                    }
                faults.append("\(subject): \(count) \(count == 1 ? "file is" : "files are") \(what)")
            }
        }
        let names = lines[..<report].compactMap(Self.name)
        if !faults.isEmpty, !names.isEmpty {
            let more = names.count > Self.named ? ", and \(names.count - Self.named) more" : ""
            faults.append(names.prefix(Self.named).joined(separator: ", ") + more)
        }
        // Whatever it means that is not told above.
        if let status, status != "ok", faults.isEmpty { faults.append("pgBackRest says: \(text)") }
    }

    /// The file that a line says is invalid.
    private static func name(_ line: Substring) -> String? {
        guard let range = line.range(of: "INFO: invalid ") else { return nil }
        let words = line[range.upperBound...].split(separator: " ", maxSplits: 2)
        guard words.count > 1 else { return nil }
        return words[1].trimmingCharacters(in: CharacterSet(charactersIn: "':"))
    }

    private static func fields(_ line: Substring) -> [(name: String, value: String)] {
        line.split(separator: ",").compactMap { part in
            let pair = part.split(separator: ":", maxSplits: 1)
            guard pair.count == 2 else { return nil }
            func trimmed(_ text: Substring) -> String { text.trimmingCharacters(in: .whitespaces) }
            return (trimmed(pair[0]), trimmed(pair[1]))
        }
    }
}
