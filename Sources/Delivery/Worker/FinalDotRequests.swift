// Law 7, the part without I/O: which final dots wait for their registration, which go with the next one, and which are in flight.

import Foundation
import Ledger

/// The final dots of one worker on one shard. `Ticket` is how the owner finds who asked.
package struct FinalDotRequests<Ticket: Sendable>: Sendable {
    /// One that was asked for.
    package struct Request: Sendable {
        /// The claim.
        package let reference: DeliveryReference
        /// The id that it was claimed under.
        package let worker: UUID
        /// Who hears the answer.
        package let ticket: Ticket
    }

    /// What goes with one registration.
    package struct Round: Sendable {
        /// To be registered, if the ledger agrees.
        package var asked: [Request] = []
        /// Of claims that are no longer ours: denied.
        package var stale: [Request] = []
        /// Registered before, whose end is not committed yet: the ledger's row is written over whole.
        package var inFlight: [(reference: DeliveryReference, at: Date)] = []
    }

    private var pending: [Request] = []
    private var worker: UUID?
    /// Registered under `worker`, whose end is not committed yet.
    private var inFlight: [DeliveryReference: Date] = [:]
    private var isClosed = false

    package init() {}

    /// Whether none waits for its registration.
    package var isEmpty: Bool { pending.isEmpty }

    /// How many wait for it.
    package var count: Int { pending.count }

    /// One more is asked for. False: nothing is registered any more.
    package mutating func ask(_ reference: DeliveryReference, worker: UUID, ticket: Ticket) -> Bool {
        if isClosed { return false }
        pending.append(Request(reference: reference, worker: worker, ticket: ticket))
        return true
    }

    /// Those of the next registration.
    ///
    /// - Parameters:
    ///   - owner: the id that the process works under now.
    ///   - owns: whether its lease lives.
    package mutating func take(owner: UUID, owns: Bool) -> Round {
        var round = Round()
        for request in pending {
            if owns, request.worker == owner {
                round.asked.append(request)
            } else {
                round.stale.append(request)
            }
        }
        pending = []
        if round.asked.isEmpty { return round }
        // The row of an earlier id stays as it was: its dots are in doubt until the ledger says otherwise.
        if worker != owner {
            worker = owner
            inFlight = [:]
        }
        round.inFlight = inFlight.map { (reference: $0.key, at: $0.value) }
        return round
    }

    /// A registration of `worker` was committed at `at`, by the server's clock.
    package mutating func registered(_ granted: Set<DeliveryReference>, worker: UUID, at: Date?) {
        guard self.worker == worker else { return }
        for reference in granted { inFlight[reference] = at }
    }

    /// The ends of these are committed: their dots are in flight no more.
    package mutating func settled(_ references: [DeliveryReference]) {
        for reference in references { inFlight[reference] = nil }
    }

    /// Nothing is registered any more. Answers those that wait: denied.
    package mutating func close() -> [Request] {
        isClosed = true
        defer { pending = [] }
        return pending
    }
}
