// What a ruleset makes of the NTA 7516 record of a recipient domain.

/// How much the NTA 7516 record of a recipient domain counts. Either way it is looked up, a lookup that fails makes the message wait,
/// and a domain that names hosts for NTA 7516 gets the message there and nowhere else. A later case is stricter.
public enum NTADemand: String, Sendable, Hashable, Codable, Comparable, CaseIterable {
    /// A domain without a valid record is an ordinary one.
    case preferred
    /// A domain without a valid record gets nothing.
    case required

    /// Weaker is less.
    public static func < (left: NTADemand, right: NTADemand) -> Bool {
        left == .preferred && right == .required
    }

    /// Whether `demand` asks at least as much as `other`; nil asks nothing.
    static func isAtLeast(_ demand: NTADemand?, _ other: NTADemand?) -> Bool {
        guard let other else { return true }
        return demand.map { $0 >= other } ?? false
    }
}
