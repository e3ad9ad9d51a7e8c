// Claims of a lease that is gone, under which no final dot is open: it was withheld, or the answer to it was no. The ledger cannot know
// that. Where such a dot was registered it would be in doubt, and its mail would wait for the final-dot timeout; so they are given back
// under their fences, which still name them, and a former owner's word that nothing was done counts at any time.

import Foundation
import Ledger
import Synchronization

/// What is to be given back, until the ledger has it durably. Who cannot reach the ledger claims nothing more, so these are never many.
package final class LapsedClaims: Sendable {
    private let references = Mutex<[UUID: Set<DeliveryReference>]>([:])

    package init() {}

    /// One more, or some again that the ledger did not take.
    package func add(_ references: some Sequence<DeliveryReference>, of worker: UUID) {
        self.references.withLock { $0[worker, default: []].formUnion(references) }
    }

    /// All of them, by the id that they were claimed under.
    package func take() -> [(worker: UUID, references: [DeliveryReference])] {
        references.withLock { all in
            defer { all = [:] }
            return all.map { ($0.key, Array($0.value)) }
        }
    }
}
