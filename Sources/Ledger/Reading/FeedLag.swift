// How far the feed is behind: events that are committed and still held back by an older transaction.

import Foundation
import Postgres

extension EventLedger {
    // How old is the oldest event that is visible but not yet in the feed? Zero in good times; it grows while a transaction (a
    // commit that waits for its quorum, a forgotten session) keeps the horizon back.
    private static let lag = """
        SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(at)), 0), 0)::float8
        FROM ledger.event WHERE arrived >= pg_snapshot_xmin(pg_current_snapshot())
        """

    /// Seconds, at the member that the feed would be read from.
    public func lag() async throws -> Double {
        try await members.read(.followers, floor: nil) { session in
            try session.query(Self.lag).first?.double(0) ?? 0
        }.value
    }
}
