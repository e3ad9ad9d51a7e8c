// Deliveries that wait for an operator's word: after a restore those that nobody knows, and those in doubt whose tenant wants that.

import Foundation
import Postgres

/// Which held deliveries are meant; what is nil leaves all of them in.
public struct HeldSelection: Sendable, Equatable {
    /// Whose.
    public var tenant: String?
    /// The recipients' domain, lower-case A-labels.
    public var domain: String?
    /// Accepted at least so long ago.
    public var age: Duration?

    /// A selection.
    public init(tenant: String? = nil, domain: String? = nil, age: Duration? = nil) {
        (self.tenant, self.domain, self.age) = (tenant, domain, age)
    }

    var parameters: [PostgresValue] {
        [
            .optional(tenant), .optional(domain),
            age.map { .double(Double($0.components.seconds)) } ?? .null,
        ]
    }

    static let condition = """
        d.state = 'held' AND ($1::text IS NULL OR d.tenant = $1) AND ($2::text IS NULL OR d.lane = $2)
            AND ($3::float8 IS NULL OR d.message_id < ledger.uuid_floor(clock_timestamp() - make_interval(secs => $3)))
        """
}

/// Held deliveries of one tenant to one domain.
public struct HeldGroup: Sendable, Codable, Equatable {
    /// Whose.
    public var tenant: String
    /// The recipients' domain.
    public var domain: String
    /// How many.
    public var count: Int
    /// When the oldest was accepted.
    public var oldest: Date
}

/// Held deliveries of a shard, on a session of its owner or of `zegel_admin`.
public enum HeldDeliveries {
    /// Those that are selected, by tenant and domain.
    public static func list(
        _ selection: HeldSelection, _ session: PostgresSession
    ) throws(PostgresError) -> [HeldGroup] {
        try session.query(
            """
            SELECT d.tenant, d.lane, count(*)::int, min(m.accepted_at) FROM ledger.delivery d
            JOIN ledger.message m ON m.id = d.message_id
            WHERE \(HeldSelection.condition) GROUP BY 1, 2 ORDER BY 1, 2
            """, selection.parameters
        ).map { (row) throws(PostgresError) in
            HeldGroup(
                tenant: try row.text(0), domain: try row.text(1), count: Int(try row.int4(2)),
                oldest: try row.timestamp(3))
        }
    }

    /// The reason of the event that says that a delivery is to be returned.
    static let returned = "operator-return"
    /// Deliveries that are decided on in one transaction: readers of the feed wait for its end.
    private static let batch: Int32 = 1000

    /// What becomes of held deliveries.
    public enum Decision: Sendable {
        /// They are tried again.
        case release
        /// They are ended unsent, and their senders told.
        case giveBack
    }

    /// Decides on those that are selected, each with an event that says so. Marks of a possible duplicate stay.
    /// - Returns: how many.
    /// - Throws: when the commit is not durable: what was done may be lost with this leader, and can be done again.
    public static func decide(
        _ decision: Decision, _ selection: HeldSelection, _ session: PostgresSession
    ) throws -> Int {
        if decision == .giveBack { try demandWorkersThatReturn(session) }
        var done = 0
        var last: (message: UUID, number: Int32)?
        repeat {
            // One that a worker holds again meanwhile lies behind.
            let after: [PostgresValue] =
                last.map { [.uuid($0.message), .int4($0.number)] } ?? [.null, .null]
            let (rows, outcome) = try session.transaction { session in
                try session.query(
                    Self.some, selection.parameters + [.bool(decision == .giveBack)] + after + [.int4(batch)])
            }
            if case .warned(let warning) = outcome {
                throw PostgresError(.server, "decided, and not durable yet: \(warning)")
            }
            last = try rows.map { (message: try $0.uuid(0), number: try $0.int4(1)) }.last
            done += rows.count
        } while last != nil
        return done
    }

    private static let some = """
        WITH chosen AS (
            SELECT d.message_id, d.no FROM ledger.delivery d
            WHERE \(HeldSelection.condition) AND ($5::uuid IS NULL OR (d.message_id, d.no) > ($5, $6::int))
            ORDER BY d.message_id, d.no LIMIT $7 FOR UPDATE
        ), decided AS (
            UPDATE ledger.delivery d SET state = 'ready', due = clock_timestamp(), fence = d.fence + 1, returned = $4
            FROM chosen c WHERE d.message_id = c.message_id AND d.no = c.no
            RETURNING d.message_id, d.no, d.tenant, d.possible_duplicate
        ), told AS (
            INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate)
            SELECT ledger.uuid_v7(), x.tenant, x.message_id, r.rcpt_no, 'released', clock_timestamp(),
                   CASE WHEN $4 THEN '\(returned)' ELSE 'operator-decision' END, x.possible_duplicate
            FROM decided x JOIN ledger.recipient r ON r.message_id = x.message_id AND r.delivery_no = x.no
                AND r.state IN ('open', 'held')
        )
        SELECT message_id, no FROM decided ORDER BY 1, 2
        """

    /// A worker that began before the schema knew of returns would send what it claims.
    private static func demandWorkersThatReturn(_ session: PostgresSession) throws {
        let old = try session.query(
            """
            SELECT count(*)::int FROM ledger.worker_heartbeat w JOIN ledger.schema_migration s ON s.version = 16
            WHERE w.lease_until > clock_timestamp() AND w.started_at < s.applied_at
            """
        ).first?.int4(0)
        guard old == 0 else {
            throw PostgresError(
                .server,
                "workers of an older version still work, and would send what is to be returned: restart them first"
            )
        }
    }
}
