// What keeps a shard in shape: partitions made ahead, old ones dropped, orphans swept. As role `zegel_admin`, once an hour or so;
// two at once do no harm.

import Crypto
import Foundation
import Postgres

/// What one round did.
public struct MaintenanceReport: Sendable {
    /// Partitions made.
    public let partitionsMade: Int
    /// Days whose partitions were dropped.
    public let daysDropped: Int
    /// Uploads swept.
    public let uploadsSwept: Int
    /// Replay tags forgotten.
    public let tagsForgotten: Int
    /// MTA-STS policies forgotten, whose time is long over.
    public let policiesForgotten: Int
    /// Judgements forgotten, whose events are gone.
    public let judgementsForgotten: Int
    /// Results of scans forgotten, whose time is long over.
    public let scansForgotten: Int
}

/// A shard's housekeeping.
public struct Maintenance: Sendable {
    let pool: PostgresPool

    /// Needs a connection of role `zegel_admin` or of the owner.
    public init(pool: PostgresPool) { self.pool = pool }

    /// One round.
    /// - Parameters:
    ///   - daysAhead: partitions that there must be beyond today's.
    ///   - retentionDays: days kept; a day with an open delivery is kept whatever its age.
    ///   - uploadIdle: how long an unfinished upload may rest.
    public func run(daysAhead: Int32 = 7, retentionDays: Int32 = 90, uploadIdle: Duration = .seconds(3600))
        async throws
        -> MaintenanceReport
    {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                func count(_ sql: String, _ parameters: [PostgresValue] = []) throws -> Int {
                    Int(try session.query(sql, parameters).first?.int4(0) ?? 0)
                }
                // Two rounds at once would make the same partition. "ZEGEM": not the migrator's lock.
                try session.execute("SELECT pg_advisory_lock(x'5a4547454d'::bigint)")
                defer { _ = try? session.execute("SELECT pg_advisory_unlock(x'5a4547454d'::bigint)") }
                try session.execute("UPDATE control.version SET heartbeat_at = clock_timestamp()")
                try Self.makeReplayKeys(session, daysAhead: daysAhead)
                return MaintenanceReport(
                    partitionsMade: try count(
                        "SELECT ledger.ensure_partitions((now() AT TIME ZONE 'UTC')::date, $1)",
                        [.int4(daysAhead + 1)]),
                    daysDropped: try count(
                        "SELECT ledger.drop_partitions((now() AT TIME ZONE 'UTC')::date - $1)",
                        [.int4(retentionDays)]),
                    uploadsSwept: try count(
                        "SELECT ledger.sweep_uploads(make_interval(secs => $1), 1000)",
                        [.double(Double(uploadIdle.components.seconds))]),
                    tagsForgotten: try Self.forgetTags(session),
                    policiesForgotten: try count("SELECT ledger.forget_policies(10000)"),
                    judgementsForgotten: try count(
                        "SELECT ledger.forget_judgements((now() AT TIME ZONE 'UTC')::date - $1, 10000)",
                        [.int4(retentionDays)]),
                    scansForgotten: try count("SELECT ledger.forget_host_scans(10000)"))
            }
        }
    }

    /// Every message has left one: all that are past their window go, some at a time.
    private static func forgetTags(_ session: PostgresSession) throws -> Int {
        var forgotten = 0
        for _ in 0..<1000 {
            let some = try session.query("SELECT ledger.forget_old_tags(10000)").first?.int4(0) ?? 0
            forgotten += Int(some)
            if some < 10_000 { break }
        }
        return forgotten
    }

    // Which keys for replay tags are not made yet?
    private static let missingReplayKeys = """
        SELECT t.id, to_char(d, 'YYYY-MM-DD') FROM control.tenant t
        CROSS JOIN generate_series((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + $1, '1 day') AS d
        WHERE t.disabled_at IS NULL
          AND NOT EXISTS (SELECT 1 FROM control.replay_key k WHERE k.tenant = t.id AND k.day = d::date)
        """

    /// Makes the keys of the coming days, so that a control shard without a leader stops no intake at midnight.
    private static func makeReplayKeys(_ session: PostgresSession, daysAhead: Int32) throws {
        let missing = try session.query(missingReplayKeys, [.int4(daysAhead)])
            .map { (tenant: try $0.text(0), day: try $0.text(1)) }
        for (tenant, day) in missing {
            let key = SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
            _ = try session.query(
                "INSERT INTO control.replay_key VALUES ($1, $2::text::date, $3) ON CONFLICT DO NOTHING",
                [.text(tenant), .text(day), .bytes(key)])
        }
    }
}
