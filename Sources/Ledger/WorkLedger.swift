// The worker's side of a shard: its lease, what it claims, what it ends. Claims, heartbeats and final dots are commits of the
// quorum; a warned one counts as none (design §8).

import Foundation
import Postgres

/// A write that committed on the leader alone, or may not have: it counts as not done.
public struct NotDurable: Error, Sendable, CustomStringConvertible {
    /// The server's words.
    public let description: String
}

/// What a worker may do with one shard, as role `zegel_worker`.
public struct WorkLedger: Sendable {
    /// The shard's name.
    public let shard: String
    let pool: PostgresPool
    let demandsQuorum: Bool

    /// - Parameters:
    ///   - pool: at least two connections, so that a heartbeat never waits behind a batch.
    ///   - demandsQuorum: several regions: a commit with no synchronous standby named is not durable.
    public init(shard: String, pool: PostgresPool, demandsQuorum: Bool = false) {
        self.shard = shard
        self.pool = pool
        self.demandsQuorum = demandsQuorum
    }

    /// Runs statements in one transaction of one round trip, whose commit must be durable. Answers the rows of each.
    func committed(_ statements: [PostgresStatement], limit: Duration? = nil) async throws -> [PostgresRows] {
        try await pool.withConnection { connection in
            try await connection.perform(deadline: limit) { session in
                // A pipeline outside a transaction block is one transaction; a warning on its commit comes with the last rows.
                let rows = try session.pipeline(statements)
                if let outcome = rows.last?.commitOutcome { try demandDurable(outcome, session) }
                return rows
            }
        }
    }

    /// Throws `NotDurable` unless the quorum has a commit that ended so.
    func demandDurable(_ outcome: PostgresCommitOutcome, _ session: PostgresSession) throws {
        if case .warned(let warning) = outcome { throw NotDurable(description: warning) }
        if demandsQuorum, try !SynchronousNames.areThere(session) {
            throw NotDurable(description: SynchronousNames.none)
        }
    }

    // MARK: Lease

    /// A new worker with a lease from now on. Also writes the shard's incarnation if this is a new timeline.
    public func register(worker: UUID, name: String, region: String, lease: Duration) async throws {
        _ = try await committed([
            PostgresStatement("SELECT ledger.current_incarnation()"),
            PostgresStatement(
                """
                INSERT INTO ledger.worker_heartbeat (id, name, region, lease, lease_until)
                VALUES ($1, $2, $3, make_interval(secs => $4), clock_timestamp() + make_interval(secs => $4))
                """, [.uuid(worker), .text(name), .text(region), .double(lease.inSeconds)]),
        ])
    }

    /// Renews a lease that still holds. False: it lapsed, and the worker must go on under a new id.
    public func heartbeat(worker: UUID, lease: Duration) async throws -> Bool {
        let rows = try await committed([
            PostgresStatement(
                """
                UPDATE ledger.worker_heartbeat SET lease_until = clock_timestamp() + make_interval(secs => $2)
                WHERE id = $1 AND lease_until > clock_timestamp() RETURNING id
                """, [.uuid(worker), .double(lease.inSeconds)])
        ])
        return rows.first?.isEmpty == false
    }

    /// Ends a lease at once: what the worker had claimed and not dotted is free with the next reclaim.
    public func resign(worker: UUID) async throws {
        _ = try await committed([
            PostgresStatement(
                "UPDATE ledger.worker_heartbeat SET lease_until = '-infinity' WHERE id = $1", [.uuid(worker)])
        ])
    }

    // MARK: Wake-up

    /// A stream that yields when deliveries became ready, coalesced. Its connection is its own.
    public static func readiness(_ connection: PostgresConnection) async throws -> AsyncStream<
        PostgresNotification
    > {
        try await connection.listen(LedgerChannel.ready)
    }
}

extension Duration {
    /// Seconds with fraction, as PostgreSQL's make_interval takes them.
    var inSeconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}
