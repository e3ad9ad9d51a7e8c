// Configuration read once into one value: defaults, then the YAML file, then ZEGEL_ environment, then --set.
//
// The file is read through Yams nodes and not through swift-configuration: that library can neither enumerate the
// keys of a file nor tell their lines, and an unknown key must be an error that names its line.
import Foundation

/// Where a value came from.
public enum SettingOrigin: Sendable, Hashable, CustomStringConvertible {
    /// The table's default, or nothing at all.
    case byDefault
    /// A line of a file, counted from 1.
    case file(String, line: Int)
    /// An environment variable.
    case environment(String)
    /// `--set key=value`.
    case commandLine

    /// `default`, `edge.yaml:3`, `ZEGEL_EDGE_LISTEN` or `--set`.
    public var description: String {
        switch self {
        case .byDefault: "default"
        case .file(let name, let line): "\(name):\(line)"
        case .environment(let name): name
        case .commandLine: "--set"
        }
    }
}

/// All settings of a process, checked. Roles read theirs through `EdgeSettings`, `WorkerSettings` and so on.
public struct Settings: Sendable {
    /// What environment variables begin with.
    public static let environmentPrefix = "ZEGEL_"

    /// Variables with our prefix that are no keys: `ZEGEL_CONFIG` (as `--config`), `ZEGEL_PATRONI` (the
    /// program that `zegel local` runs), `ZEGEL_DIR` (as `--dir` of
    /// `zegel`), and what the tests and the deployment scripts take.
    public static let otherEnvironmentNames: Set<String> = ["ZEGEL_CONFIG", "ZEGEL_DIR", "ZEGEL_PATRONI"]
    /// Variables of the project's own tests and scripts begin with this and are no keys either.
    public static let testEnvironmentPrefix = "ZEGEL_TEST_"

    struct Held: Sendable {
        var text: SettingText?
        var origin: SettingOrigin
        var value: any Sendable
    }

    private(set) var held: [String: Held] = [:]
    /// The file that was read, as given; nil without one.
    public private(set) var file: String?

    /// Reads the sources in rising order.
    ///
    /// - Parameters:
    ///   - file: path of a YAML file, at most 1 MB; nil for none. Keys are dotted or nested.
    ///   - environment: the process environment; only `ZEGEL_…` is looked at.
    ///   - assignments: texts `key=value`, in order; the last of one key holds.
    /// - Throws: `SettingsError` for the first thing that is wrong.
    public init(
        file: String? = nil, environment: [String: String] = [:], assignments: [String] = []
    ) throws(SettingsError) {
        self.file = file
        for key in Keys.all {
            try set(key, to: key.entry.defaultText.map { .one($0) }, from: .byDefault)
        }
        if let file {
            for entry in try YAMLSource.read(file: file) {
                try set(entry.name, to: entry.text, from: .file(file, line: entry.line))
            }
        }
        for (name, text) in environment.sorted(by: { $0.key < $1.key })
        where name.hasPrefix(Self.environmentPrefix) && !Self.otherEnvironmentNames.contains(name)
            && !name.hasPrefix(Self.testEnvironmentPrefix)
        {
            guard let key = Keys.all.first(where: { $0.entry.environmentName == name }) else {
                let names = Keys.all.map(\.entry.environmentName) + Self.otherEnvironmentNames
                throw SettingsError(
                    place: name, key: nil, problem: "no setting has this variable",
                    fix: Suggestion.fix(for: name, among: names, otherwise: "unset it"))
            }
            try set(key, to: .one(text), from: .environment(name))
        }
        for assignment in assignments {
            guard let equals = assignment.firstIndex(of: "=") else {
                throw SettingsError(
                    place: "--set", key: trimmed(assignment), problem: "has no '='",
                    fix: "write --set key=value")
            }
            try set(
                trimmed(assignment[..<equals]),
                to: .one(String(assignment[assignment.index(after: equals)...])),
                from: .commandLine)
        }
    }

    private mutating func set(
        _ name: String, to text: SettingText, from origin: SettingOrigin
    ) throws(SettingsError) {
        guard let key = Keys.byName[name] else {
            throw SettingsError(
                place: "\(origin)", key: name, problem: "is no setting",
                fix: Suggestion.fix(
                    for: name, among: Keys.all.map(\.entry.name),
                    otherwise: "see docs/configuration.md or --check for all settings"))
        }
        try set(key, to: text, from: origin)
    }

    private mutating func set(
        _ key: AnySettingKey, to text: SettingText?, from origin: SettingOrigin
    ) throws(SettingsError) {
        guard let text else {
            if let absent = key.absent {
                held[key.entry.name] = Held(text: nil, origin: origin, value: absent)
            }
            return
        }
        let clean: SettingText =
            switch text {
            case .one(let one): .one(trimmed(one))
            case .items(let items): .items(items.map(trimmed))
            case .pairs(let pairs): .pairs(pairs.map(trimmed))
            }
        do {
            held[key.entry.name] = Held(text: clean, origin: origin, value: try key.parse(clean))
        } catch {
            // The problem quotes the value: a secret one must not be shown.
            let problem = key.entry.isSecret ? "its value (secret) is no \(key.entry.type)" : error.problem
            throw SettingsError(place: "\(origin)", key: key.entry.name, problem: problem, fix: error.fix)
        }
    }

    /// The value of `key`.
    public subscript<Value>(_ key: SettingKey<Value>) -> Value {
        guard let value = held[key.name]?.value as? Value else {
            // `init` stored a value of this very type for every key of the table; a test walks the table.
            preconditionFailure("\(key.name) is not in the table of settings")
        }
        return value
    }

    /// Where the value of `key` came from.
    public func origin<Value>(of key: SettingKey<Value>) -> SettingOrigin {
        held[key.name]?.origin ?? .byDefault
    }

    /// The value of a key that this process cannot do without.
    ///
    /// - Throws: `SettingsError` that says who needs it when it is not set.
    public func required<Value>(_ key: SettingKey<Value?>, for role: String) throws(SettingsError) -> Value {
        guard let value = self[key] else {
            throw SettingsError(
                place: file ?? "configuration", key: key.name, problem: "is not set and \(role) needs it",
                fix: "set it: \(key.entry.summary)")
        }
        return value
    }

    /// One setting as `--check` tells it.
    public struct Reported: Sendable, Hashable, Codable {
        /// The key.
        public let key: String
        /// Its value as text; `(set)` for a secret, `(not set)` where there is none.
        public let value: String
        /// Where it came from.
        public let origin: String
    }

    /// Every key with its value and where it came from, by name; secrets as `(set)`.
    public var reported: [Reported] {
        Keys.entries.map { entry in
            let held = held[entry.name]
            return Reported(
                key: entry.name, value: Self.shown(held?.text, entry), origin: "\(held?.origin ?? .byDefault)"
            )
        }
    }

    /// What `--check` prints: a line for each of `reported`.
    public func report() -> String {
        let lines = reported.map { ("\($0.key) = \($0.value)", $0.origin) }
        let width = min(60, lines.map(\.0.count).max() ?? 0)
        return lines.map { left, origin in
            left + String(repeating: " ", count: max(1, width - left.count + 1)) + "(\(origin))\n"
        }.joined()
    }

    private static func shown(_ text: SettingText?, _ entry: SettingEntry) -> String {
        let shown =
            switch text {
            case nil: ""
            case .one(let one): one
            case .items(let items), .pairs(let items): items.joined(separator: ",")
            }
        if shown.isEmpty { return "(not set)" }
        return entry.isSecret ? "(set)" : shown
    }
}
