// Tenants, credentials and key sets are in the first shard only. A shard that is restored without it gets them from it.

import Foundation
import Postgres

/// Fills a restored shard's control schema from another shard's.
public struct ControlCopy: Sendable {
    // Those that others refer to come first.
    private static let tables = [
        "tenant", "sender_domain", "credential", "api_key", "key_set", "replay_key", "config",
        "config_change",
    ]

    /// Where the other lies.
    public var link: SourceLink

    /// A copy.
    public init(link: SourceLink) { self.link = link }

    /// Copies, in one transaction; what was there before goes. Safe to repeat.
    /// - Parameter session: of the restored shard's owner.
    public func run(_ session: PostgresSession) throws {
        _ = try session.transaction(begin: "BEGIN ISOLATION LEVEL REPEATABLE READ") { session in
            try link.open(session, ledger: [], control: Self.tables)
            let all = Self.tables.map { "control.\($0)" }.joined(separator: ", ")
            try session.execute("TRUNCATE \(all)")
            for table in Self.tables {
                try session.execute("INSERT INTO control.\(table) SELECT * FROM source_control.\(table)")
            }
            try link.close(session)
        }
    }
}
