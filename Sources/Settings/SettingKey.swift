// One configuration key: its name, type, default, limits and meaning. The table of all keys is in SettingTable.swift.

/// What is known of a key without its Swift type: enough to find, document and print it.
public struct SettingEntry: Sendable, Equatable {
    /// Dotted lower-case name: `edge.max_connections`.
    public var name: String
    /// The type as the reference shows it: `duration`, `size`, `list of host:port`.
    public var type: String
    /// The default as one would write it, nil when there is none.
    public var defaultText: String?
    /// Allowed range or choices, nil when the type says it all.
    public var limits: String?
    /// One line for the operator.
    public var summary: String
    /// Its value is never printed.
    public var isSecret: Bool

    /// The environment variable that sets this key: `ZEGEL_EDGE_MAX_CONNECTIONS`.
    public var environmentName: String {
        Settings.environmentPrefix
            + String(name.map { $0 == "." ? "_" : Character($0.uppercased()) })
    }
}

/// A key whose value is a `Value`; `Value` is optional for keys without a default.
public struct SettingKey<Value: Sendable>: Sendable {
    /// Name, documentation and limits.
    public let entry: SettingEntry
    let parse: @Sendable (SettingText) throws(SettingProblem) -> Value
    /// The value when no source names the key and there is no default text.
    let absent: Value?

    /// The dotted name.
    public var name: String { entry.name }

    init(
        _ name: String, _ type: SettingType<Value>, _ defaultText: String, secret: Bool = false,
        _ summary: String
    ) {
        self.entry = SettingEntry(
            name: name, type: type.name, defaultText: defaultText, limits: type.limits, summary: summary,
            isSecret: secret)
        self.parse = type.parse
        self.absent = nil
    }

    /// A key without a default.
    init<Wrapped: Sendable>(
        _ name: String, optional type: SettingType<Wrapped>, secret: Bool = false, _ summary: String
    ) where Value == Wrapped? {
        self.entry = SettingEntry(
            name: name, type: type.name, defaultText: nil, limits: type.limits, summary: summary,
            isSecret: secret)
        self.parse = { (text) throws(SettingProblem) in try type.parse(text) }
        self.absent = .some(nil)
    }
}

/// A key with its type forgotten, so that all keys fit in one table.
struct AnySettingKey: Sendable {
    let entry: SettingEntry
    let parse: @Sendable (SettingText) throws(SettingProblem) -> any Sendable
    let absent: (any Sendable)?

    init<Value>(_ key: SettingKey<Value>) {
        self.entry = key.entry
        let parse = key.parse
        self.parse = { (text) throws(SettingProblem) in try parse(text) }
        self.absent = key.absent
    }
}

/// A value as a source wrote it: one text, or the items of a YAML sequence, or those of a mapping as `key=value`.
enum SettingText: Sendable, Equatable {
    case one(String)
    case items([String])
    case pairs([String])
}
