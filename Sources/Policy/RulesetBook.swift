// The rulesets that a node knows: the built-in ones and those of its rulesets file.
import Settings

/// The rulesets a node knows, by name.
public struct RulesetBook: Sendable, Hashable {
    private var rulesets: [String: Ruleset]

    /// The built-in rulesets and those given; one given under a built-in name replaces it only when it is at
    /// least as strict.
    public init(adding more: [Ruleset] = []) {
        let builtIn: [Ruleset] = [.opportunistic, .secure, .nta7516]
        self.rulesets = Dictionary(uniqueKeysWithValues: builtIn.map { ($0.name, $0) })
        for ruleset in more where !ruleset.name.contains("+") {
            if let known = rulesets[ruleset.name], !ruleset.isAtLeastAsStrict(as: known) { continue }
            rulesets[ruleset.name] = ruleset
        }
    }

    /// The built-in rulesets and those of the file that `rulesets.file` names, if it names one.
    ///
    /// - Throws: `SettingsError` with file, line and key of what is wrong.
    public init(_ settings: RulesetSettings) throws(SettingsError) {
        guard let file = settings.file else {
            self.init()
            return
        }
        let read = try RulesetFile(file)
        self.init(adding: read.rulesets.map(\.ruleset))
        try read.checkGateways(self)
    }

    /// The ruleset of that name, or the strictest of those joined with `+`; nil when one of them is not known,
    /// so that a message is never judged by less than it was taken in under.
    public func ruleset(named name: String) -> Ruleset? {
        let parts = name.split(separator: "+", omittingEmptySubsequences: false).map { rulesets[String($0)] }
        guard parts.allSatisfy({ $0 != nil }) else { return nil }
        return Ruleset.strictest(of: parts.compactMap { $0 })
    }

    /// All of them by name.
    public var all: [Ruleset] { rulesets.values.sorted { $0.name < $1.name } }
}
