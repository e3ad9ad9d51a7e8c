// Law 7: a final dot is written only after its registration was committed. Registrations are asked for when MAIL is sent and
// awaited before the dot, so that the commit overlaps the transfer; whatever was asked meanwhile goes with the next commit.

import Foundation
import Ledger
import Logging
import Metrics
import Synchronization

/// The answer to one registration, to be awaited once.
final class DotTicket: Sendable {
    private enum State {
        case open(CheckedContinuation<Bool, Never>?)
        case answered(Bool)
    }

    private let state = Mutex(State.open(nil))

    /// Whether the dot may be written, as far as the ledger is concerned.
    func isGranted() async -> Bool {
        await withCheckedContinuation { continuation in
            let answer = state.withLock { state -> Bool? in
                switch state {
                case .answered(let answer): return answer
                case .open:
                    state = .open(continuation)
                    return nil
                }
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    fileprivate func answer(_ isGranted: Bool) {
        let waiter = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard case .open(let waiter) = state else { return nil }
            state = .answered(isGranted)
            return waiter
        }
        waiter?.resume(returning: isGranted)
    }
}

/// Registers final dots for one worker on one shard.
final class DotRegistrar: Sendable {
    /// From one commit of several registrations to the next: they are asked for before the content is sent.
    static let gather: Duration = .milliseconds(10)

    private let ledger: WorkLedger
    private let lease: LeaseKeeper
    private let logger: Logger
    private let state = Mutex(FinalDotRequests<DotTicket>())
    private let wake = Wakeup()
    private let denied = Counter(label: "zegel_worker_final_dots_denied")

    init(ledger: WorkLedger, lease: LeaseKeeper, logger: Logger) {
        self.ledger = ledger
        self.lease = lease
        self.logger = logger
    }

    /// Asks for one registration; the answer comes with the ticket.
    func request(_ reference: DeliveryReference, worker: UUID) -> DotTicket {
        let ticket = DotTicket()
        let isTaken = state.withLock { $0.ask(reference, worker: worker, ticket: ticket) }
        if isTaken { wake.set() } else { ticket.answer(false) }
        return ticket
    }

    /// The end of a delivery is committed: its dot is in flight no more.
    func settled(_ references: [DeliveryReference]) {
        state.withLock { $0.settled(references) }
    }

    /// Commits registrations until cancelled; what is asked after that is denied.
    func run() async {
        var pace = CommitPace(gather: Self.gather)
        while !Task.isCancelled {
            await wake.wait()
            if let end = pace.rest(at: .now) { try? await Task.sleep(until: end) }
            let worker = lease.worker
            let owns = lease.owns(worker)
            let round = state.withLock { $0.take(owner: worker, owns: owns) }
            for request in round.stale { answer(request, false) }
            if round.asked.isEmpty { continue }
            pace.began(items: round.asked.count, at: .now)
            await register(round, worker)
        }
        for request in state.withLock({ $0.close() }) { request.ticket.answer(false) }
    }

    private func register(_ round: FinalDotRequests<DotTicket>.Round, _ worker: UUID) async {
        do {
            let (granted, at) = try await ledger.registerDots(
                worker: worker, round.asked.map(\.reference), inFlight: round.inFlight)
            state.withLock { $0.registered(granted, worker: worker, at: at) }
            for request in round.asked { answer(request, granted.contains(request.reference)) }
        } catch {
            // It may have been committed; but no dot follows, so nothing is in doubt.
            logger.warning(
                "final dots not registered",
                metadata: ["error": "\(error)", "count": "\(round.asked.count)"])
            for request in round.asked { answer(request, false) }
        }
    }

    private func answer(_ request: FinalDotRequests<DotTicket>.Request, _ isGranted: Bool) {
        if !isGranted { denied.increment() }
        request.ticket.answer(isGranted)
    }
}
