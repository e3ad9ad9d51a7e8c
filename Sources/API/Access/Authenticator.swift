// Who calls: API keys as bearer tokens (RFC 6750), looked up by id, compared by hash, limited in rate.

import Foundation
import Hummingbird
import Ledger
import Synchronization

/// What a caller may see and do.
struct Principal: Sendable {
    /// Only this tenant's data; nil: all tenants'.
    var tenant: String?
    var rate: RateState
}

/// What the `X-RateLimit-*` headers say.
struct RateState: Sendable {
    var limit: Int
    var remaining: Int
    /// When the bucket is full again.
    var reset: Date
}

/// A permission of an API key.
enum Scope: String {
    case readEvents = "events:read"
    case readMessages = "messages:read"
    case judge = "judge"
    /// Every permission, now and later.
    case all = "*"
}

/// Answers who a request comes from. Keys are cached for a few seconds: that is how late a revocation takes hold.
final class Authenticator: Sendable {
    private static let cacheLimit = 10_000

    private struct Known {
        var row: APIKeyRow?
        var until: ContinuousClock.Instant
    }

    private struct State {
        var known: [UUID: Known] = [:]
        var buckets: [UUID: TokenBucket] = [:]
        var lookups: TokenBucket
    }

    private let find: @Sendable (UUID) async throws -> APIKeyRow?
    private let ratePerSecond: Int
    private let cacheTime: Duration
    private let state: Mutex<State>

    /// - Parameters:
    ///   - ratePerSecond: requests of one key; the burst is ten times that.
    ///   - cacheTime: how long an answer of `find` holds.
    ///   - find: reads one key from the control schema.
    init(
        ratePerSecond: Int, cacheTime: Duration = .seconds(5),
        find: @escaping @Sendable (UUID) async throws -> APIKeyRow?
    ) {
        self.find = find
        self.ratePerSecond = ratePerSecond
        self.cacheTime = cacheTime
        // Guesses of unknown ids cost a query each: bounded for all callers together.
        self.state = Mutex(State(lookups: TokenBucket(perSecond: 50, burst: 200, now: .now)))
    }

    /// The caller, when the key holds and has `scope`.
    ///
    /// - Throws: `Problem` 401, 403 or 429; what the database throws.
    func authenticate(_ headers: HTTPFields, for scope: Scope) async throws -> Principal {
        guard let header = headers[.authorization] else {
            throw Problem.unauthorized("This needs an API key: Authorization: Bearer zegel_…")
        }
        let parts = header.split(separator: " ", omittingEmptySubsequences: true)
        guard parts.count == 2, parts[0].lowercased() == "bearer", let key = APIKeyText(String(parts[1]))
        else {
            throw Problem.unauthorized("The Authorization header holds no API key.")
        }
        // An unknown id is compared too, so that time does not tell it from a wrong secret.
        let row = try await row(key.id)
        let matches = key.matches(hash: row?.secretHash ?? [UInt8](repeating: 0, count: 32))
        guard let row, matches, !row.isRevoked else {
            throw Problem.unauthorized("The API key is unknown, wrong or revoked.")
        }
        let rate = try takeTurn(key.id)
        guard row.scopes.contains(scope.rawValue) || row.scopes.contains(Scope.all.rawValue) else {
            throw Problem.forbidden("The API key lacks the scope \(scope.rawValue).")
        }
        return Principal(tenant: row.tenant, rate: rate)
    }

    private func row(_ id: UUID) async throws -> APIKeyRow? {
        let now = ContinuousClock.now
        let (known, mayLookUp) = state.withLock { state -> (Known?, Bool) in
            if let known = state.known[id], known.until > now { return (known, true) }
            // A key that held before is asked again whatever strangers do.
            return (nil, state.known[id]?.row != nil || state.lookups.take(now: now))
        }
        if let known { return known.row }
        guard mayLookUp else {
            throw Problem.tooManyRequests("Too many unknown API keys; try again shortly.", after: 1)
        }
        let row = try await find(id)
        state.withLock { state in
            if state.known.count >= Self.cacheLimit { state.known.removeAll() }
            state.known[id] = Known(row: row, until: now + cacheTime)
        }
        return row
    }

    private func takeTurn(_ id: UUID) throws -> RateState {
        let now = ContinuousClock.now
        let (taken, bucket) = state.withLock { state -> (Bool, TokenBucket) in
            if state.buckets.count >= Self.cacheLimit { state.buckets.removeAll() }
            let rate = Double(ratePerSecond)
            var bucket = state.buckets[id] ?? TokenBucket(perSecond: rate, burst: rate * 10, now: now)
            let taken = bucket.take(now: now)
            state.buckets[id] = bucket
            return (taken, bucket)
        }
        guard taken else { throw Problem.tooManyRequests("This API key asks too often.", after: 1) }
        let reset = Date() + TimeInterval(bucket.untilFull / .seconds(1))
        return RateState(limit: ratePerSecond * 10, remaining: bucket.remaining, reset: reset)
    }
}
