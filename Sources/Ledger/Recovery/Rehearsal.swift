// What would become of a restored shard's open deliveries, asked of the shard that goes on, a few at a time: nothing is changed, copied or
// held up by it.

import Foundation
import Postgres

/// The deliveries that were open at the moment, and what became of them.
public struct Rehearsal: Sendable, Codable, Equatable {
    /// That have ended since.
    public var ended = 0
    /// That are open still.
    public var open = 0
    /// Of which the shard that goes on knows nothing.
    public var unknown = 0

    /// Deliveries that are asked about at once.
    private static let batch: Int32 = 1000

    /// Nothing.
    public init() {}

    /// A delivery.
    public struct Delivery: Sendable {
        /// Its message.
        public let message: UUID
        /// Its number.
        public let number: Int32
    }

    /// The next open deliveries of a restored shard.
    /// - Parameter last: the last of those before; nil: from the start.
    public static func deliveries(
        after last: Delivery?, _ session: PostgresSession
    ) throws(PostgresError) -> [Delivery] {
        try session.query(
            """
            SELECT message_id, no FROM ledger.delivery WHERE $1::uuid IS NULL OR (message_id, no) > ($1, $2::int)
            ORDER BY message_id, no LIMIT $3
            """,
            [last.map { .uuid($0.message) } ?? .null, last.map { .int4($0.number) } ?? .null, .int4(batch)]
        ).map { (row) throws(PostgresError) in
            Delivery(message: try row.uuid(0), number: try row.int4(1))
        }
    }

    /// Asks the shard that goes on about some.
    public mutating func ask(
        about deliveries: [Delivery], _ session: PostgresSession
    ) throws(PostgresError) {
        let rows = try session.query(
            """
            SELECT count(*) FILTER (WHERE d.message_id IS NOT NULL)::int,
                   count(*) FILTER (WHERE d.message_id IS NULL AND r.ended)::int, count(*)::int
            FROM unnest($1::uuid[], $2::int[]) AS a (m, n)
            LEFT JOIN ledger.delivery d ON d.message_id = a.m AND d.no = a.n
            CROSS JOIN LATERAL (
                SELECT coalesce(bool_and(r.state NOT IN ('open', 'held')), false) AS ended FROM ledger.recipient r
                WHERE r.message_id = a.m AND r.delivery_no = a.n) r
            """, [.uuidArray(deliveries.map(\.message)), .int4Array(deliveries.map(\.number))])
        guard let row = rows.first else { return }
        let (open, ended, all) = (Int(try row.int4(0)), Int(try row.int4(1)), Int(try row.int4(2)))
        self.open += open
        self.ended += ended
        unknown += all - open - ended
    }
}
