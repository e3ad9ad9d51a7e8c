// What every test here starts from: a connection to a database of its own.

import Foundation
import Lab
import Postgres

/// Connects to a fresh database of the shared cluster.
func connect() async throws -> PostgresConnection {
    let server = try await TemporaryPostgres.shared()
    return try await connect(server)
}

func connect(_ server: TemporaryPostgres) async throws -> PostgresConnection {
    try await PostgresConnection.connect(
        PostgresConfiguration(server.dsn(database: try await server.createDatabase())))
}

/// The failure of `body`.
func failure(_ body: () async throws -> Void) async throws -> PostgresError {
    do {
        try await body()
    } catch let error as PostgresError {
        return error
    }
    throw LabError("expected a failure")
}
