// Who may ask, and how often.
import Foundation
import Hummingbird
import Synchronization
import Testing

@testable import API
@testable import Ledger

@Suite("Access")
struct AccessTests {
    private static let id = UUID()
    private static let key = APIKeyText(id: id, secret: "0123456789abcdefghijklmnopqrstuvwxyz_-ABCDE")

    private static func headers(_ value: String) -> HTTPFields { [.authorization: value] }

    private static func authenticator(
        rate: Int = 100, tenant: String? = "demo", scopes: [String] = ["events:read"], revoked: Bool = false,
        lookups: Counted = Counted()
    ) -> Authenticator {
        Authenticator(ratePerSecond: rate) { asked in
            lookups.add()
            guard asked == id else { return nil }
            return APIKeyRow(
                id: id, tenant: tenant, scopes: scopes, secretHash: key.secretHash, isRevoked: revoked)
        }
    }

    private static func status(_ work: () async throws -> Void) async -> Int {
        do {
            try await work()
            return 200
        } catch let problem as Problem {
            return problem.status.code
        } catch {
            return 500
        }
    }

    @Test("a key is read as it was written, and its secret is not in its description")
    func keyText() throws {
        let read = try #require(APIKeyText(Self.key.text))
        #expect(read.id == Self.id && read.secretHash == Self.key.secretHash)
        #expect(
            !"\(read)".contains("0123456789abcdef") && !String(reflecting: read).contains("0123456789abcdef"))
        for text in [
            "", "zegel", "zegel__", "zegel_x_y", "other_\(Self.id)_\(String(repeating: "a", count: 43))",
        ] {
            #expect(APIKeyText(text) == nil, "\(text)")
        }
    }

    @Test(
        "401 for whoever is not known",
        arguments: [
            "", "Bearer", "Bearer x", "Basic \(key.text)", "Bearer \(key.text)x", "Bearer \(key.text) more",
            "Bearer \(APIKeyText(id: UUID(), secret: "0123456789abcdefghijklmnopqrstuvwxyz_-ABCDE").text)",
        ])
    func unknown(header: String) async {
        let status = await Self.status {
            _ = try await Self.authenticator().authenticate(Self.headers(header), for: .readEvents)
        }
        #expect(status == 401)
    }

    @Test("401 without a header, 401 for a revoked key, 403 without the scope, 200 with it or with all")
    func scopes() async {
        let good = Self.headers("bearer \(Self.key.text)")
        #expect(
            await Self.status {
                _ = try await Self.authenticator().authenticate(HTTPFields(), for: .readEvents)
            } == 401)
        #expect(
            await Self.status {
                _ = try await Self.authenticator(revoked: true).authenticate(good, for: .readEvents)
            }
                == 401)
        #expect(
            await Self.status { _ = try await Self.authenticator().authenticate(good, for: .readMessages) }
                == 403)
        #expect(
            await Self.status { _ = try await Self.authenticator().authenticate(good, for: .readEvents) }
                == 200)
        #expect(
            await Self.status {
                _ = try await Self.authenticator(scopes: ["*"]).authenticate(good, for: .readMessages)
            }
                == 200)
    }

    @Test("the tenant of the key comes along, and nil for an operator's")
    func tenants() async throws {
        let good = Self.headers("Bearer \(Self.key.text)")
        #expect(try await Self.authenticator().authenticate(good, for: .readEvents).tenant == "demo")
        #expect(try await Self.authenticator(tenant: nil).authenticate(good, for: .readEvents).tenant == nil)
    }

    @Test("a key that asks too often gets 429 after its burst; a lookup is not repeated for each request")
    func rate() async {
        let lookups = Counted()
        let authenticator = Self.authenticator(rate: 1, lookups: lookups)
        var statuses: [Int] = []
        for _ in 0..<15 {
            statuses.append(
                await Self.status {
                    _ = try await authenticator.authenticate(
                        Self.headers("Bearer \(Self.key.text)"), for: .readEvents)
                })
        }
        #expect(statuses.filter { $0 == 200 }.count >= 10 && statuses.last == 429)
        #expect(lookups.count == 1)
    }

    @Test("a revocation holds as soon as the cached answer is too old")
    func revocation() async {
        let revoked = Mutex(false)
        let authenticator = Authenticator(ratePerSecond: 100, cacheTime: .zero) { _ in
            APIKeyRow(
                id: Self.id, tenant: nil, scopes: ["*"], secretHash: Self.key.secretHash,
                isRevoked: revoked.withLock { $0 })
        }
        let good = Self.headers("Bearer \(Self.key.text)")
        #expect(await Self.status { _ = try await authenticator.authenticate(good, for: .readEvents) } == 200)
        revoked.withLock { $0 = true }
        #expect(await Self.status { _ = try await authenticator.authenticate(good, for: .readEvents) } == 401)
    }

    @Test("guesses of unknown ids are bounded, and cost no known key its access")
    func guesses() async {
        let lookups = Counted()
        let authenticator = Self.authenticator(lookups: lookups)
        let good = Self.headers("Bearer \(Self.key.text)")
        #expect(await Self.status { _ = try await authenticator.authenticate(good, for: .readEvents) } == 200)
        var statuses: Set<Int> = []
        for _ in 0..<400 {
            let guess = APIKeyText(id: UUID(), secret: String(repeating: "a", count: 43)).text
            statuses.insert(
                await Self.status {
                    _ = try await authenticator.authenticate(
                        Self.headers("Bearer \(guess)"), for: .readEvents)
                })
        }
        #expect(statuses == [401, 429])
        #expect(lookups.count < 390)
        #expect(await Self.status { _ = try await authenticator.authenticate(good, for: .readEvents) } == 200)
    }

    @Test("a bucket fills at its rate and never over its burst")
    func bucket() {
        let start = ContinuousClock.now
        var bucket = TokenBucket(perSecond: 2, burst: 3, now: start)
        let taken = (0..<5).map { _ in bucket.take(now: start) }
        #expect(taken == [true, true, true, false, false])
        #expect(bucket.untilFull == .seconds(1.5))
        let refilled = [
            bucket.take(now: start + .milliseconds(500)), bucket.take(now: start + .milliseconds(500)),
        ]
        #expect(refilled == [true, false])
        _ = bucket.take(now: start + .seconds(100))
        #expect(bucket.remaining == 2)
    }
}

/// A count from many tasks.
final class Counted: Sendable {
    private let number = Mutex(0)
    var count: Int { number.withLock { $0 } }
    func add() { number.withLock { $0 += 1 } }
}
