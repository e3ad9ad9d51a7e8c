// LISTEN: what is notified arrives, without anyone asking the server.

import Foundation
import Lab
import Postgres
import Testing

@Test(
    "A notification arrives while the connection is idle and while it works; streams end with the connection")
func listening() async throws {
    let server = try await TemporaryPostgres.shared()
    let configuration = PostgresConfiguration(server.dsn(database: try await server.createDatabase()))
    let listener = try await PostgresConnection.connect(configuration)
    let speaker = try await PostgresConnection.connect(configuration)
    let ready = try await listener.listen("Ready \"now\"")
    let other = try await listener.listen("other")

    for number in 0..<5 {
        _ = try await speaker.perform {
            try $0.query("SELECT pg_notify('Ready \"now\"', $1)", [.text("\(number)")])
        }
    }
    var payloads: [String] = []
    for await notification in ready {
        payloads.append(notification.payload)
        if payloads.count == 5 { break }
    }
    #expect(payloads == ["0", "1", "2", "3", "4"])

    async let work = listener.perform { try $0.query("SELECT pg_sleep(0.2)").count }
    _ = try await speaker.perform { try $0.execute("NOTIFY other, 'x'") }
    var first = other.makeAsyncIterator()
    #expect(await first.next()?.payload == "x")
    #expect(try await work == 1)

    // A slow reader keeps the newest.
    _ = try await speaker.perform { session in
        for number in 0..<500 { _ = try session.query("SELECT pg_notify('other', $1)", [.text("\(number)")]) }
        return
    }
    // Whatever was notified before a statement comes with its answer.
    _ = try await listener.perform { try $0.query("SELECT 1").count }
    await listener.close()
    var kept: [String] = []
    while let next = await first.next() { kept.append(next.payload) }
    #expect(kept.count <= 64 && kept.last == "499")
    await speaker.close()
}
