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
    private struct Request {
        let reference: DeliveryReference
        let worker: UUID
        let ticket: DotTicket
    }

    private struct State {
        var pending: [Request] = []
        var worker: UUID?
        /// Registered under `worker`, whose end is not committed yet.
        var inFlight: [DeliveryReference: Date] = [:]
        var isClosed = false
    }

    /// From one commit of several registrations to the next: they are asked for before the content is sent.
    static let gather: Duration = .milliseconds(10)

    private let ledger: WorkLedger
    private let lease: LeaseKeeper
    private let logger: Logger
    private let state = Mutex(State())
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
        let isClosed = state.withLock { state in
            if state.isClosed { return true }
            state.pending.append(Request(reference: reference, worker: worker, ticket: ticket))
            return false
        }
        if isClosed { ticket.answer(false) } else { wake.set() }
        return ticket
    }

    /// The end of a delivery is committed: its dot is in flight no more.
    func settled(_ references: [DeliveryReference]) {
        state.withLock { state in
            for reference in references { state.inFlight[reference] = nil }
        }
    }

    /// Commits registrations until cancelled; what is asked after that is denied.
    func run() async {
        var pace = CommitPace(gather: Self.gather)
        while !Task.isCancelled {
            await wake.wait()
            if let end = pace.rest(at: .now) { try? await Task.sleep(until: end) }
            let requests = state.withLock { state in
                defer { state.pending = [] }
                return state.pending
            }
            if requests.isEmpty { continue }
            pace.began(items: requests.count, at: .now)
            await register(requests)
        }
        let left = state.withLock { state in
            state.isClosed = true
            defer { state.pending = [] }
            return state.pending
        }
        for request in left { request.ticket.answer(false) }
    }

    private func register(_ requests: [Request]) async {
        let worker = lease.worker
        let (asked, stale) = (
            requests.filter { $0.worker == worker && lease.owns($0.worker) },
            requests.filter { $0.worker != worker || !lease.owns($0.worker) }
        )
        for request in stale { answer(request, false) }
        if asked.isEmpty { return }
        let inFlight = state.withLock { state in
            // The row of an earlier id stays as it was: its dots are in doubt until the ledger says otherwise.
            if state.worker != worker {
                state.worker = worker
                state.inFlight = [:]
            }
            return state.inFlight.map { (reference: $0.key, at: $0.value) }
        }
        do {
            let (granted, at) = try await ledger.registerDots(
                worker: worker, asked.map(\.reference), inFlight: inFlight)
            state.withLock { state in
                guard state.worker == worker else { return }
                for reference in granted { state.inFlight[reference] = at }
            }
            for request in asked { answer(request, granted.contains(request.reference)) }
        } catch {
            // It may have been committed; but no dot follows, so nothing is in doubt.
            logger.warning(
                "final dots not registered", metadata: ["error": "\(error)", "count": "\(asked.count)"])
            for request in asked { answer(request, false) }
        }
    }

    private func answer(_ request: Request, _ isGranted: Bool) {
        if !isGranted { denied.increment() }
        request.ticket.answer(isGranted)
    }
}
