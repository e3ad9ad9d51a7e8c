// How a shard's leader archives its WAL, as the leader itself tells: for whoever watches it.

import Foundation
import Postgres

/// The standing of a leader's archive.
public struct ArchiveStanding: Sendable, Equatable {
    /// Seconds since a segment went into the archive; nil: none did since the leader began.
    public var age: Double?
    /// Whether the last attempt failed.
    public var isFailing: Bool
}

extension WorkLedger {
    /// How the leader archives.
    public func archiveStanding() async throws -> ArchiveStanding {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                let row = try session.query(
                    """
                    SELECT extract(epoch FROM clock_timestamp() - last_archived_time)::float8,
                           coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false)
                    FROM pg_stat_archiver
                    """
                ).first
                return ArchiveStanding(
                    age: try row.flatMap { try $0.isNull(0) ? nil : $0.double(0) },
                    isFailing: try row?.bool(1) ?? false)
            }
        }
    }
}
