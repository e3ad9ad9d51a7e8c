// Keeps endpoints.json true while processes come and go.

import Foundation
import Synchronization

/// Rewrites `endpoints.json` whenever a process id changed.
final class EndpointsWriter: Sendable {
    private let path: String
    private let base: Endpoints
    private let children = Mutex<[SupervisedChild]>([])

    /// Writes `base` with the process ids of the watched children to `path`.
    init(_ base: Endpoints, path: String) {
        self.base = base
        self.path = path
    }

    /// The children whose process ids are written; all belong to the first region.
    func watch(_ watched: [SupervisedChild]) throws(ClusterError) {
        children.withLock { $0 = watched }
        try write(withSupervisor: true)
    }

    /// A process id changed.
    func childChanged() {
        // A full disk must not end the supervisor; the next change tries again.
        try? write(withSupervisor: true)
    }

    /// The supervisor ends: nobody lives.
    func end() { try? write(withSupervisor: false) }

    private func write(withSupervisor: Bool) throws(ClusterError) {
        // Under the lock: two writers at once would put an older state over a newer one.
        try children.withLock { children throws(ClusterError) in
            var endpoints = base
            for index in endpoints.regions.indices {
                var pids = Dictionary(uniqueKeysWithValues: Endpoints.roles.map { ($0, [Int32]()) })
                if withSupervisor { pids[NodeRole.supervisor.rawValue] = [getpid()] }
                for child in children {
                    if let pid = child.pid { pids[child.program.role.rawValue, default: []].append(pid) }
                }
                endpoints.regions[index].pids = pids
            }
            try endpoints.save(path)
        }
    }
}
