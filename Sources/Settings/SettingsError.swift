// What is wrong with a configuration, in one line a person can act on.

/// A configuration that cannot be used. The line it prints names the place, the key, what is wrong and the fix.
public struct SettingsError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Where the value came from: `edge.yaml:3`, `ZEGEL_EDGE_LISTEN`, `--set` or `configuration`.
    public var place: String
    /// The key concerned, nil when the whole source is unusable.
    public var key: String?
    /// What is wrong. Never shows the value of a secret key.
    public var problem: String
    /// What to do about it.
    public var fix: String

    /// Makes an error from its four parts.
    public init(place: String, key: String?, problem: String, fix: String) {
        self.place = place
        self.key = key
        self.problem = problem
        self.fix = fix
    }

    /// EX_CONFIG of sysexits.h: a supervisor must not restart a node that ends with it.
    public static let exitCode: Int32 = 78

    /// `place: key: problem; fix`
    public var description: String {
        let text = [place, key, "\(problem); \(fix)"].compactMap { $0 }.joined(separator: ": ")
        return String(text.map { $0.isNewline ? " " : $0 })
    }
}

/// Why a text is no value of a type, before it is known where the text stood.
struct SettingProblem: Error {
    var problem: String
    var fix: String
}
