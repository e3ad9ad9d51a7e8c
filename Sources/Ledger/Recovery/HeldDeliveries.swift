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
        let (count, outcome) = try session.transaction { session in
            Int(
                try session.query(
                    """
                    WITH released AS (
                        UPDATE ledger.delivery d SET state = 'ready', due = clock_timestamp(), fence = d.fence + 1, returned = $4
                        WHERE \(HeldSelection.condition)
                        RETURNING d.message_id, d.no, d.tenant, d.possible_duplicate
                    ), told AS (
                        INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate)
                        SELECT ledger.uuid_v7(), x.tenant, x.message_id, r.rcpt_no, 'released', clock_timestamp(),
                               'operator-decision', x.possible_duplicate
                        FROM released x JOIN ledger.recipient r ON r.message_id = x.message_id AND r.delivery_no = x.no
                            AND r.state IN ('open', 'held')
                    )
                    SELECT count(*)::int FROM released
                    """, selection.parameters + [.bool(decision == .giveBack)]
                ).first?.int4(0) ?? 0)
        }
        if case .warned(let warning) = outcome {
            throw PostgresError(.server, "decided, and not durable yet: \(warning)")
        }
        return count
    }
}
