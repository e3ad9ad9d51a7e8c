// Replays looked for ahead of a commit: a client that repeats after midnight is known by yesterday's tag only.

import Foundation
import Postgres

extension IntakeLedger {
    /// The first messages with these tags, made to stand by this commit; tags without one are left out.
    /// Throws when the commit is not durable or not known.
    public func replays(of tags: [[UInt8]]) async throws -> [[UInt8]: UUID] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                let (found, outcome) = try session.transaction { session in
                    var found: [[UInt8]: UUID] = [:]
                    for row in try session.query(
                        "SELECT t, ledger.replay_of(t) FROM unnest($1) AS n(t)", [.bytesArray(tags)])
                    {
                        if let id = try row.optionalUUID(1) { found[try row.bytes(0)] = id }
                    }
                    return found
                }
                if !found.isEmpty, case .warned(let warning) = outcome {
                    throw PostgresError(.server, "not durable: \(warning)")
                }
                return found
            }
        }
    }
}
