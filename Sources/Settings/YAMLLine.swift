// Another file than the configuration, read in the same way: lines of names and values.

/// One value of a YAML file, with its place.
public struct YAMLLine: Sendable, Hashable {
    /// The keys that lead to it, joined with dots.
    public let name: String
    /// The value as written.
    public let value: String
    /// Counted from 1.
    public let line: Int

    /// Takes a value and its place.
    public init(name: String, value: String, line: Int) {
        self.name = name
        self.value = value
        self.line = line
    }

    /// Reads a file of nested mappings, at most 1 MB, in its order.
    ///
    /// - Throws: `SettingsError` for a file that cannot be read, is no YAML, or holds a list or a key twice.
    public static func read(file: String) throws(SettingsError) -> [YAMLLine] {
        try lines(YAMLSource.read(file: file), file: file)
    }

    /// Reads the text of such a file; `file` is what errors call it.
    public static func read(_ text: String, file: String) throws(SettingsError) -> [YAMLLine] {
        try lines(YAMLSource.read(text, file: file), file: file)
    }

    private static func lines(
        _ entries: [YAMLSource.Entry], file: String
    ) throws(SettingsError) -> [YAMLLine] {
        var lines: [YAMLLine] = []
        for entry in entries {
            guard case .one(let text) = entry.text else {
                throw SettingsError(
                    place: "\(file):\(entry.line)", key: entry.name, problem: "is a list",
                    fix: "write one value")
            }
            lines.append(YAMLLine(name: entry.name, value: text, line: entry.line))
        }
        return lines
    }
}
