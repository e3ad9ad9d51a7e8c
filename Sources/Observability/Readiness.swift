// Whether this node can do its work now, as named conditions that its services set.
import Synchronization

/// The conditions of a node. It is ready when every condition holds. Each is a short constant name such as
/// `database`; reasons are for operators and hold no personal data.
public final class Readiness: Sendable {
    /// A condition that does not hold.
    public struct Failing: Sendable, Equatable {
        /// The name it was set under.
        public var condition: String
        /// Why it does not hold.
        public var reason: String
    }

    private let conditions = Mutex<[String: String?]>([:])

    /// Makes a node without conditions: it is ready.
    public init() {}

    /// Announces conditions that do not hold yet, so that the node is not ready before they are set.
    public func expect(_ names: String...) {
        conditions.withLock { all in
            for name in names where all[name] == nil { all[name] = .some("not yet") }
        }
    }

    /// Says that a condition holds.
    public func hold(_ name: String) { conditions.withLock { $0[name] = .some(nil) } }

    /// Says that a condition does not hold, and why.
    public func fail(_ name: String, _ reason: String) { conditions.withLock { $0[name] = .some(reason) } }

    /// The conditions that do not hold, by name.
    public var failing: [Failing] {
        conditions.withLock { all in
            all.compactMap { name, reason in reason.map { Failing(condition: name, reason: $0) } }
        }.sorted { $0.condition < $1.condition }
    }

    /// Whether every condition holds.
    public var isReady: Bool { failing.isEmpty }
}
