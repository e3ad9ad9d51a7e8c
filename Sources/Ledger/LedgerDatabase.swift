// The database that holds a shard, seen from outside of its tables: does it answer, is it there.
import Foundation
import Postgres

/// What whoever runs a database asks of it.
public enum LedgerDatabase {
    /// Does the server take statements?
    private static let probe = "SELECT 1"
    /// Is there a database of that name?
    private static let find = "SELECT 1 FROM pg_database WHERE datname = $1"

    /// Returns when the server answers.
    ///
    /// - Throws: `PostgresError` when it does not.
    public static func probe(_ session: PostgresSession) throws(PostgresError) {
        _ = try session.query(probe)
    }

    /// Whether this server leads, and does not follow another one.
    public static func leads(_ session: PostgresSession) throws(PostgresError) -> Bool {
        guard let row = try session.query("SELECT NOT pg_is_in_recovery()").first else { return false }
        return try row.bool(0)
    }

    /// Waits until nobody else prepares this server, and keeps others waiting until the session ends. "ZEGEP", in the database that the
    /// session is of.
    public static func takeTurn(_ session: PostgresSession) throws(PostgresError) {
        try session.execute("SELECT pg_advisory_lock(x'5a45474550'::bigint)")
    }

    /// Creates the database unless it is there, on a connection to another one of the same server.
    ///
    /// - Parameter name: letters, digits and underscores; of our own making, never of anybody's input.
    public static func create(_ name: String, _ session: PostgresSession) throws(PostgresError) {
        guard try session.query(find, [.text(name)]).isEmpty else { return }
        try session.execute("CREATE DATABASE \"\(name)\"")
    }

    /// Only superusers come into the databases that a new server brings along. For whoever owns the whole server: others may
    /// keep something of theirs there.
    ///
    /// - Throws: `PostgresError` unless the session is a superuser's.
    public static func closeOthers(_ session: PostgresSession) throws(PostgresError) {
        try session.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
    }

    /// Lets a role, of our own making, into the database `postgres` again: members ask each other there before they rewind.
    public static func admit(_ role: String, _ session: PostgresSession) throws(PostgresError) {
        try session.execute("GRANT CONNECT ON DATABASE postgres TO \"\(role)\"")
    }

    /// Commits something that changes nothing: whoever restores this server finds its time in the WAL.
    public static func mark(_ session: PostgresSession) throws(PostgresError) {
        try session.execute("SELECT pg_logical_emit_message(true, 'zegel', '')")
    }

    /// How many messages this server has that were accepted later than a moment.
    public static func accepted(since moment: Date, _ session: PostgresSession) throws(PostgresError) -> Int {
        let rows = try session.query(
            "SELECT count(*) FROM ledger.message WHERE accepted_at > $1", [.timestamp(moment)])
        guard let row = rows.first else { return 0 }
        return Int(try row.int8(0))
    }
}
