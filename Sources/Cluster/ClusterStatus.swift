// What `zegel local status` reports.

/// The state of a local cluster.
public struct ClusterStatus: Sendable, Codable, Equatable {
    /// The whole in one word.
    public enum State: String, Sendable, Codable {
        /// Everything is ready.
        case up
        /// It is up, but something is not ready.
        case degraded
        /// Nothing runs.
        case down
    }

    /// One process.
    public struct Node: Sendable, Codable, Equatable {
        /// Its name.
        public var name: String
        /// What it does.
        public var role: NodeRole
        /// Its process id.
        public var pid: Int32?
        /// Whether it does its work.
        public var ready: Bool
        /// Why not.
        public var reason: String
    }

    /// The cluster's folder.
    public var directory: String
    /// The whole.
    public var state: State
    /// The supervisor's process id.
    public var supervisor: Int32?
    /// The processes.
    public var nodes: [Node]

    /// A table for people.
    public var text: String {
        guard state != .down else { return "\(directory): down\n" }
        let width = nodes.map(\.name.count).max() ?? 0
        let lines = nodes.map { node in
            let name = node.name + String(repeating: " ", count: width - node.name.count)
            let pid = node.pid.map { "pid \($0)" } ?? "no process"
            return
                "  \(name)  \(node.ready ? "ready" : "NOT READY")  \(pid)\(node.reason.isEmpty ? "" : ": \(node.reason)")"
        }
        return (["\(directory): \(state.rawValue)"] + lines).joined(separator: "\n") + "\n"
    }
}
