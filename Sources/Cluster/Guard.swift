// Ends a PostgreSQL whose Patroni is stuck: a leader that nobody minds goes on writing after another one was chosen, and with another
// member in the same state it acknowledges what is lost then. Stands in for a watchdog device where there is none.

import Foundation
import Ledger
import Logging
import NIOPosix

/// What a guard makes of its looks at Patroni, as a value: no clock, no process inside.
public struct GuardState: Sendable, Equatable {
    /// Looks in a row that must fail before PostgreSQL is ended.
    public let patience: Int
    /// Looks in a row that have failed.
    public private(set) var failures = 0

    /// A guard that has not looked yet.
    public init(patience: Int) { self.patience = patience }

    /// Patroni answered that it is alive, or did not.
    /// - Returns: whether PostgreSQL is to end now. Also the next look that fails says so: it may have been started again.
    public mutating func looked(isAlive: Bool) -> Bool {
        failures = isAlive ? 0 : failures + 1
        return failures >= patience
    }
}

/// Watches the Patroni of one member.
public struct MemberGuard: Sendable {
    /// Between looks.
    public var interval = Duration.seconds(2)
    /// How long one look may take.
    public var limit = Duration.seconds(1)
    /// Looks in a row that must fail. With the defaults PostgreSQL ends within 9 s, well before Patroni's ttl of 20 s is over.
    public var patience = 3

    private let url: String
    private let postmaster: Postmaster
    private let histories: TimelineHistories
    private let patroni: PatroniClient

    /// A guard over the PostgreSQL in `data`.
    /// - Parameters:
    ///   - url: its Patroni: `https://address:port`.
    ///   - authority: PEM file: who may vouch for Patroni's certificate.
    /// - Throws: `configuration` for an authority that cannot be used.
    public init(url: String, data: String, authority: String) throws(ClusterError) {
        guard let pem = FileManager.default.contents(atPath: authority) else {
            throw ClusterError(.configuration, "\(authority) cannot be read")
        }
        self.url = url
        postmaster = Postmaster(data: data)
        histories = TimelineHistories(data: data)
        do {
            patroni = try PatroniClient(
                authorityPEM: Array(pem), group: MultiThreadedEventLoopGroup.singleton)
        } catch {
            throw ClusterError(.configuration, "\(authority) cannot be used: \(error)")
        }
    }

    /// Watches until cancelled.
    public func run(logger: Logger) async {
        await withDiscardingTaskGroup { group in
            // On its own: a disk that stands still must not keep the guard from looking.
            group.addTask { await keepTidy(logger) }
            await look(logger)
        }
        patroni.shutDown()
    }

    private func look(_ logger: Logger) async {
        var state = GuardState(patience: patience)
        while !Task.isCancelled {
            let began = ContinuousClock.now
            let isAlive = await patroni.isAlive(at: url, limit: limit)
            if state.looked(isAlive: isAlive), let pid = postmaster.pid {
                logger.critical(
                    "Patroni does not answer: PostgreSQL is ended before another member leads",
                    metadata: ["pid": "\(pid)", "looks": "\(state.failures)"])
                kill(pid, SIGQUIT)
            }
            try? await Task.sleep(until: began + interval)
        }
    }

    private func keepTidy(_ logger: Logger) async {
        while !Task.isCancelled {
            tidy(logger)
            try? await Task.sleep(for: interval)
        }
    }

    /// A member that was lost between its claim of a timeline and its lead could not start with what the claim left: without a leader it
    /// would wait for ever.
    private func tidy(_ logger: Logger) {
        do {
            let cleared = try histories.clearSkipped { postmaster.pid == nil || postmaster.isStarting }
            guard !cleared.isEmpty else { return }
            logger.notice(
                "timelines that were claimed, and never led on, are forgotten here",
                metadata: ["timelines": "\(cleared.map(String.init).joined(separator: ","))"])
            // It has read them.
            if postmaster.isStarting, let pid = postmaster.pid { kill(pid, SIGQUIT) }
        } catch {
            logger.error("a claimed timeline is not forgotten", metadata: ["reason": "\(error)"])
        }
    }
}
