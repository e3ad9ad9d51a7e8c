// What an edge knows of tenants, domains and credentials: the newest snapshot, and how old that knowledge is.

import Foundation
import Ledger
import Logging
import Observability
import ServiceLifecycle
import Synchronization

/// The newest control snapshot. It is kept when the database is away; past a bound of its age it is not worked with.
///
/// The age is that of the leader's last heartbeat which the member had, not of the last answer: a member that its leader does not reach
/// answers as gladly as any.
final class ControlView: Sendable {
    /// Past this age of its knowledge an edge answers 451 (design §5), in seconds.
    let maximumAge: TimeInterval

    private struct State {
        var snapshot: ControlSnapshot?
        /// When the leader is last known to have had nothing newer.
        var currentAt = Date.distantPast
    }

    private let state = Mutex(State())

    init(maximumAge: TimeInterval = 24 * 3600) { self.maximumAge = maximumAge }

    /// The snapshot, unless there is none or it is too old.
    func current(now: Date) -> ControlSnapshot? {
        state.withLock { state in
            now.timeIntervalSince(state.currentAt) <= maximumAge ? state.snapshot : nil
        }
    }

    /// Seconds since the snapshot was last known to be the newest.
    func age(now: Date) -> TimeInterval {
        state.withLock { max(0, now.timeIntervalSince($0.currentAt)) }
    }

    var version: Int64? { state.withLock { $0.snapshot?.version } }

    /// Takes a snapshot; not one from before what is at hand, as a member that lags has it, while that may be worked with.
    /// - Returns: whether it was taken.
    @discardableResult
    func take(_ snapshot: ControlSnapshot, now: Date) -> Bool {
        state.withLock { state in
            if let held = state.snapshot, snapshot.version < held.version,
                now.timeIntervalSince(state.currentAt) <= maximumAge
            {
                return false
            }
            state.snapshot = snapshot
            state.currentAt = max(state.currentAt, now - snapshot.age)
            return true
        }
    }

    /// A member has this version. The leader had no other at its last heartbeat.
    func confirm(_ version: ControlVersion, now: Date) {
        state.withLock { state in
            guard state.snapshot?.version == version.number else { return }
            state.currentAt = max(state.currentAt, now - version.age)
        }
    }
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
        if version.number == view.version { return view.confirm(version, now: Date()) }
        let snapshot = try await ledger.snapshot(credentials: true)
        guard view.take(snapshot, now: Date()) else { return }
        logger.info("control snapshot taken", metadata: ["version": "\(snapshot.version)"])
        guard let signed = snapshot.signedKeySet else { return }
        do {
            try keys.take(signed, now: Date())
        } catch {
            logger.error("region key set refused", metadata: ["error": "\(error)"])
        }
    }

    private func words(_ version: Int64?, age: TimeInterval) -> String {
        if version == nil { return "no snapshot yet" }
        return
            "tenants and credentials are \(Int(age)) s old, more than control.maximum_age: the control shard's leader is not heard of"
    }

    private func judge(_ now: Date) {
        let age = view.age(now: now)
        metrics.controlAge.record(min(age, 1e9))
        if view.current(now: now) != nil {
            readiness.hold("control")
        } else {
            readiness.fail("control", words(view.version, age: age))
        }
        switch keys.sealableUntil {
        case nil: readiness.fail("keys", "no usable region key set")
        case let until? where until <= now: readiness.fail("keys", "region keys have expired")
        case _?: readiness.hold("keys")
        }
    }
}

/// Says at the control shard's leader, every few seconds, that it lives.
struct ControlBeat: Service, CustomStringConvertible {
    let leader: ControlLedger
    let logger: Logger
    var interval = Duration.seconds(5)

    var description: String { "control heartbeat" }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do { try await leader.beat() } catch {
                    logger.debug("no heartbeat of the control shard", metadata: ["error": "\(error)"])
                }
                try? await Task.sleep(for: interval)
            }
        }
    }
}
