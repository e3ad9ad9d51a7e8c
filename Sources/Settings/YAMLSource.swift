// A YAML file as a flat list of keys, each with its line.
import Foundation
import Yams

/// Reads a configuration file; nested mappings become dotted names.
enum YAMLSource {
    struct Entry: Equatable {
        var name: String
        var text: SettingText
        /// Counted from 1.
        var line: Int
    }

    private static let sizeLimit = 1_000_000

    static func read(file: String) throws(SettingsError) -> [Entry] {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: file))
        } catch {
            // Also where a folder on the way is not there, or not ours to look into.
            var isMissing = false
            if access(file, F_OK) != 0 { isMissing = errno == ENOENT }
            throw SettingsError(
                place: file, key: nil, problem: isMissing ? "does not exist" : "cannot be read",
                fix: "name a file that this user may read")
        }
        guard data.count <= sizeLimit, let text = String(data: data, encoding: .utf8) else {
            throw SettingsError(
                place: file, key: nil, problem: "is no text in UTF-8 of at most 1 MB", fix: "give a YAML file"
            )
        }
        return try read(text, file: file)
    }

    static func read(_ text: String, file: String) throws(SettingsError) -> [Entry] {
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch let error as YamlError {
            throw unreadable(error, in: text, file: file)
        } catch {
            throw SettingsError(
                place: file, key: nil, problem: "is no YAML", fix: "write lines of key: value")
        }
        guard let root else { return [] }
        if case .scalar(let scalar) = root, scalar.string.isEmpty { return [] }
        guard case .mapping(let mapping) = root else {
            throw SettingsError(
                place: "\(file):\(root.mark?.line ?? 1)", key: nil, problem: "is no mapping",
                fix: "write lines of key: value")
        }
        var entries: [Entry] = []
        try flatten(mapping, prefix: "", file: file, into: &entries)
        var lines: [String: Int] = [:]
        for entry in entries {
            if let earlier = lines.updateValue(entry.line, forKey: entry.name) {
                throw SettingsError(
                    place: "\(file):\(entry.line)", key: entry.name,
                    problem: "is set a second time, first at line \(earlier)",
                    fix: "remove one of the two")
            }
        }
        return entries
    }

    private static func flatten(
        _ mapping: Node.Mapping, prefix: String, file: String, into entries: inout [Entry]
    ) throws(SettingsError) {
        for (keyNode, value) in mapping {
            let line = keyNode.mark?.line ?? 1
            guard case .scalar(let key) = keyNode, !key.string.isEmpty else {
                throw SettingsError(
                    place: "\(file):\(line)", key: nil, problem: "a key must be a text",
                    fix: "write key: value")
            }
            let name = prefix + key.string
            let isKey = Keys.byName[name] != nil
            switch value {
            case .scalar(let scalar):
                guard scalar.style != .plain || !["", "~", "null"].contains(scalar.string) else {
                    throw SettingsError(
                        place: "\(file):\(line)", key: name, problem: "has no value",
                        fix: "give one or remove the line")
                }
                entries.append(Entry(name: name, text: .one(scalar.string), line: line))
            case .sequence(let sequence):
                var items: [String] = []
                for item in sequence {
                    guard case .scalar(let scalar) = item else {
                        throw SettingsError(
                            place: "\(file):\(item.mark?.line ?? line)", key: name,
                            problem: "an item is itself a list or mapping", fix: "write plain items")
                    }
                    items.append(scalar.string)
                }
                entries.append(Entry(name: name, text: .items(items), line: line))
            case .mapping(let inner) where isKey:
                // `delivery.routes: {example.org: "gw:25"}` is `example.org=gw:25`.
                var items: [String] = []
                for (left, right) in inner {
                    guard case .scalar(let left) = left, case .scalar(let right) = right else {
                        throw SettingsError(
                            place: "\(file):\(line)", key: name, problem: "is nested too deeply",
                            fix: "write name: value below it")
                    }
                    items.append("\(left.string)=\(right.string)")
                }
                entries.append(Entry(name: name, text: .pairs(items), line: line))
            case .mapping(let inner):
                try flatten(inner, prefix: name + ".", file: file, into: &entries)
            case .alias:
                throw SettingsError(
                    place: "\(file):\(line)", key: name, problem: "is an alias", fix: "write the value itself"
                )
            }
        }
    }

    private static func unreadable(_ error: YamlError, in text: String, file: String) -> SettingsError {
        let (line, problem): (Int?, String) =
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
                .composer(_, let problem, let mark, _):
                (mark.line, problem)
            case .duplicatedKeysInMapping(let duplicates, let context):
                (
                    duplicates.compactMap { secondLine(of: $0, in: text, from: context.mark) }.min()
                        ?? context.mark.line,
                    "has keys twice: \(duplicates.sorted().joined(separator: ", "))"
                )
            case .reader(let problem, _, _, _): (nil, problem)
            default: (nil, "cannot be parsed")
            }
        return SettingsError(
            place: line.map { "\(file):\($0)" } ?? file, key: nil, problem: "is no YAML: \(problem)",
            fix: "write lines of key: value, nested by spaces")
    }

    /// The line at which a key of the block mapping that begins at `mark` stands again; nil where that is not plain to see.
    private static func secondLine(of key: String, in text: String, from mark: Mark) -> Int? {
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        var isSecond = false
        for (index, line) in lines.enumerated().dropFirst(mark.line - 1) {
            let indent = line.prefix { $0 == " " }.count
            let content = line.dropFirst(indent)
            if content.isEmpty || content.hasPrefix("#") { continue }
            // Before it ends: a key further left is one of a mapping around this.
            if indent < mark.column - 1 { return nil }
            guard indent == mark.column - 1 || index == mark.line - 1, let end = content.firstIndex(of: ":"),
                content[..<end].trimmingCharacters(in: CharacterSet(charactersIn: " \"'")) == key
            else { continue }
            if isSecond { return index + 1 }
            isSecond = true
        }
        return nil
    }
}
