// What happened since, as tables of another server that are read beside the shard's own: postgres_fdw, for the length of a transaction.

import Foundation
import Postgres

/// Another server that a restored shard is compared with.
public struct SourceLink: Sendable {
    /// The folder of its socket.
    public var sockets: String
    /// Its port.
    public var port: Int
    /// Its database.
    public var database: String
    /// The role, whose password the restored server's own environment has.
    public var role: String

    /// Another server.
    public init(sockets: String, port: Int, database: String, role: String) {
        (self.sockets, self.port, self.database, self.role) = (sockets, port, database, role)
    }

    private static func literal(_ text: String) -> String { "'" + text.replacing("'", with: "''") + "'" }

    /// Makes the tables appear, as `source_ledger` and `source_control`. In a transaction: whatever becomes of it, nothing of this stays.
    /// - Parameter session: a superuser's, in a transaction at least REPEATABLE READ, so that all is seen as of one moment.
    func open(_ session: PostgresSession, ledger: [String], control: [String]) throws(PostgresError) {
        try session.execute("CREATE EXTENSION IF NOT EXISTS postgres_fdw WITH SCHEMA public")
        try session.execute(
            """
            CREATE SERVER zegel_source FOREIGN DATA WRAPPER postgres_fdw OPTIONS (
                host \(Self.literal(sockets)), port '\(port)', dbname \(Self.literal(database)),
                fetch_size '1000', connect_timeout '10');
            CREATE USER MAPPING FOR CURRENT_USER SERVER zegel_source OPTIONS (user \(Self.literal(role)));
            CREATE SCHEMA source_ledger;
            CREATE SCHEMA source_control
            """)
        for (schema, tables) in [("ledger", ledger), ("control", control)] where !tables.isEmpty {
            try session.execute(
                """
                IMPORT FOREIGN SCHEMA \(schema) LIMIT TO (\(tables.joined(separator: ", ")))
                FROM SERVER zegel_source INTO source_\(schema)
                """)
        }
        // Frames are large: a few at a time.
        if ledger.contains("content") {
            try session.execute("ALTER FOREIGN TABLE source_ledger.content OPTIONS (ADD fetch_size '16')")
        }
    }

    /// Takes it all away again.
    func close(_ session: PostgresSession) throws(PostgresError) {
        try session.execute("DROP SCHEMA source_ledger, source_control CASCADE")
        try session.execute("DROP EXTENSION postgres_fdw CASCADE")
    }
}
