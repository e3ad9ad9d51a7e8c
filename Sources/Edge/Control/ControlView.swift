// What an edge knows of tenants, domains and credentials: the newest snapshot, and how old that knowledge is.

import Foundation
import Ledger
import Logging
import Observability
import ServiceLifecycle
import Synchronization

/// The newest control snapshot. It is kept when the database is away; older than a day it is not worked with.
final class ControlView: Sendable {
    /// Past this age of its knowledge an edge answers 451 (design §5).
    static let maximumAge: TimeInterval = 24 * 3600

    private struct State {
        var snapshot: ControlSnapshot?
        var confirmedAt = Date.distantPast
    }

    private let state = Mutex(State())

    /// The snapshot, unless there is none or it is too old.
    func current(now: Date) -> ControlSnapshot? {
        state.withLock { state in
            guard let snapshot = state.snapshot, now.timeIntervalSince(state.confirmedAt) <= Self.maximumAge
            else {
                return nil
            }
            return snapshot
        }
    }

    /// Seconds since the snapshot was last known to be the newest.
    func age(now: Date) -> TimeInterval {
        state.withLock {
            now.timeIntervalSince(max($0.confirmedAt, $0.snapshot?.heartbeatAt ?? .distantPast))
        }
    }

    var version: Int64? { state.withLock { $0.snapshot?.version } }

    func take(_ snapshot: ControlSnapshot, now: Date) {
        state.withLock { state in
            state.snapshot = snapshot
            state.confirmedAt = now
        }
    }

    func confirm(now: Date) { state.withLock { $0.confirmedAt = now } }
}

/// Polls the version each second and the snapshot when it changed; feeds key sets to the sealer.
struct ControlWatch: Service, CustomStringConvertible {
    let ledger: ControlLedger
    let view: ControlView
    let keys: EdgeKeys
    let readiness: Readiness
    let metrics: EdgeMetrics
    let logger: Logger
    var interval = Duration.seconds(1)

    var description: String { "control watch" }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var isFailing = false
            var rounds = 0
            while !Task.isCancelled {
                do {
                    try await poll()
                    if isFailing { logger.info("control database is back") }
                    isFailing = false
                } catch {
                    if !isFailing, !Task.isCancelled {
                        logger.warning("control database cannot be read", metadata: ["error": "\(error)"])
                    }
                    isFailing = true
                }
                judge(Date())
                rounds += 1
                if rounds % 60 == 0 { keys.eraseExpired(now: Date()) }
                try? await Task.sleep(for: interval)
            }
        }
    }

    func poll() async throws {
        let version = try await ledger.version()
        if version == view.version { return view.confirm(now: Date()) }
        let snapshot = try await ledger.snapshot(credentials: true)
        view.take(snapshot, now: Date())
        logger.info("control snapshot taken", metadata: ["version": "\(snapshot.version)"])
        guard let signed = snapshot.signedKeySet else { return }
        do {
            try keys.take(signed, now: Date())
        } catch {
            logger.error("region key set refused", metadata: ["error": "\(error)"])
        }
    }

    private func judge(_ now: Date) {
        let age = view.age(now: now)
        metrics.controlAge.record(min(age, 1e9))
        if view.current(now: now) != nil {
            readiness.hold("control")
        } else {
            readiness.fail("control", view.version == nil ? "no snapshot yet" : "snapshot older than 24 h")
        }
        switch keys.sealableUntil {
        case nil: readiness.fail("keys", "no usable region key set")
        case let until? where until <= now: readiness.fail("keys", "region keys have expired")
        case _?: readiness.hold("keys")
        }
    }
}
