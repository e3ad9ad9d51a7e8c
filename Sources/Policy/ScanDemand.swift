// What a ruleset makes of scans: of what a recipient host accepts beside the connection that carries the message.

/// How much a scan of the recipient host counts. Either way a host that is known to accept what the guidelines call insufficient gets
/// nothing, and a scan never makes good what the connection itself lacks. A later case is stricter.
public enum ScanDemand: String, Sendable, Hashable, Codable, Comparable, CaseIterable {
    /// Where nobody has scanned the host yet, its connection alone decides.
    case known
    /// The message waits until there is a complete scan of the host.
    case required

    /// Weaker is less.
    public static func < (left: ScanDemand, right: ScanDemand) -> Bool {
        left == .known && right == .required
    }

    /// Whether `demand` asks at least as much as `other`; nil asks nothing.
    static func isAtLeast(_ demand: ScanDemand?, _ other: ScanDemand?) -> Bool {
        guard let other else { return true }
        return demand.map { $0 >= other } ?? false
    }
}
