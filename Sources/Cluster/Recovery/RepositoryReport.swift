// What pgBackRest says when it has verified a repository. Its exit status is 0 whatever it found.

/// The result of `pgbackrest verify --output=text --verbose`.
struct RepositoryReport: Sendable, Equatable {
    /// Files that were checked.
    var files = 0
    /// What is wrong.
    var faults: [String] = []

    // archiveId: 15-1, total WAL checked: 7, total valid WAL: 6
    // backup: 20261127-172118F, status: invalid, total files checked: 964, total valid files: 963
    //   missing: 0, checksum invalid: 1, size invalid: 0, other: 0
    init(_ text: String) {
        var status: String?
        var subject = ""
        for raw in text.split(separator: "\n") {
            let line = raw.drop { $0 == " " }
            if line.hasPrefix("status: ") { status = String(line.dropFirst(8)) }
            if line.hasPrefix("archiveId: ") || line.hasPrefix("backup: ") {
                let fields = Self.fields(line)
                files += fields.compactMap { $0.name.hasSuffix("checked") ? Int($0.value) : nil }.reduce(0, +)
                subject =
                    line.hasPrefix("archiveId") ? "the archived WAL" : "backup \(fields.first?.value ?? "?")"
            }
            if line.hasPrefix("missing: ") || line.hasPrefix("checksum invalid: ")
                || line.hasPrefix("size invalid: ") || line.hasPrefix("other: ")
            {
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
        }
        // Whatever it means that is not told above.
        if let status, status != "ok", faults.isEmpty { faults.append("pgBackRest says: \(text)") }
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
