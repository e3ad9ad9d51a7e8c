// Which claims this process knows that it has. A claim, a release or a completion whose answer was lost may leave the ledger with a
// claim that nobody here holds, under a lease that goes on: comparing the two finds those, and they are given back.

import Ledger
import Synchronization

/// The claims in hand: queued, under way, or waiting for their commit.
package final class HeldClaims: Sendable {
    private let references = Mutex<Set<DeliveryReference>>([])

    package init() {}

    /// These were claimed.
    package func took(_ references: [DeliveryReference]) {
        self.references.withLock { held in
            for reference in references { held.insert(reference) }
        }
    }

    /// These are in hand no more.
    package func letGo(_ references: [DeliveryReference]) {
        self.references.withLock { held in
            for reference in references { held.remove(reference) }
        }
    }

    /// Those of `references` that are not in hand.
    package func strangers(among references: [DeliveryReference]) -> [DeliveryReference] {
        self.references.withLock { held in references.filter { !held.contains($0) } }
    }
}
