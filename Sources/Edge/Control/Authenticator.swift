// Checks passwords against SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), off the event loops.

import Crypto
import Foundation
import Ledger
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Sealing
import Synchronization

/// Who a client proved to be.
struct Identity: Sendable, Equatable {
    var tenant: String
    /// The credential's id and name; nil when the client's address alone says whose mail it brings.
    var credential: (id: UUID, username: String)?

    static func == (a: Identity, b: Identity) -> Bool {
        a.tenant == b.tenant && a.credential?.id == b.credential?.id
    }
}

/// How an attempt ended.
enum AuthenticationOutcome: Sendable {
    case accepted(Identity)
    case refused
    /// Too many attempts wait.
    case busy
}

/// Derives keys on a few threads; remembers what held, by a MAC under a key that this process alone has.
final class Authenticator: Sendable {
    private struct State {
        var known: [[UInt8]: ContinuousClock.Instant] = [:]
        var waiting = 0
    }

    private let processKey = SymmetricKey(size: .bits256)
    private let threads: NIOThreadPool
    private let state = Mutex(State())
    private let lifetime: Duration
    private let maximumKnown: Int
    private let maximumWaiting: Int

    /// - Parameters:
    ///   - threads: where keys are derived.
    ///   - lifetime: how long a success is remembered.
    init(
        threads: NIOThreadPool, lifetime: Duration = .seconds(600), maximumKnown: Int = 4096,
        maximumWaiting: Int = 64
    ) {
        self.threads = threads
        self.lifetime = lifetime
        self.maximumKnown = maximumKnown
        self.maximumWaiting = maximumWaiting
    }

    /// Checks credentials; the answer comes on `loop`, or at once when they are remembered.
    ///
    /// An unknown user costs as much time as a wrong password.
    func check(
        user: String, password: [UInt8], in snapshot: ControlSnapshot, on loop: any EventLoop
    ) -> EventLoopFuture<AuthenticationOutcome> {
        let credential = snapshot.credentials[user]
        let mark = credential.map { self.mark($0, password) }
        if let credential, let mark, isKnown(mark) {
            return loop.makeSucceededFuture(.accepted(Identity(credential)))
        }
        let mayWait = state.withLock { (state: inout State) -> Bool in
            guard state.waiting < maximumWaiting else { return false }
            state.waiting += 1
            return true
        }
        guard mayWait else { return loop.makeSucceededFuture(.busy) }
        return threads.runIfActive(eventLoop: loop) { () -> AuthenticationOutcome in
            defer { self.state.withLock { $0.waiting -= 1 } }
            guard let credential else {
                _ = Self.storedKey(
                    password, salt: Array("zegel".utf8) + Array(repeating: 0, count: 11), iterations: 4096)
                return .refused
            }
            let derived = Self.storedKey(
                password, salt: credential.salt, iterations: credential.iterations)
            guard let derived, Self.areEqual(derived, credential.storedKey) else { return .refused }
            if let mark { self.remember(mark) }
            return .accepted(Identity(credential))
        }
    }

    private func isKnown(_ mark: [UInt8]) -> Bool {
        let now = ContinuousClock.now
        return state.withLock { (state: inout State) -> Bool in
            guard let until = state.known[mark] else { return false }
            return until > now
        }
    }

    private func remember(_ mark: [UInt8]) {
        let now = ContinuousClock.now
        state.withLock { state in
            if state.known.count >= maximumKnown { state.known = state.known.filter { $0.value > now } }
            if state.known.count >= maximumKnown { state.known.removeAll() }
            state.known[mark] = now + lifetime
        }
    }

    /// A changed verifier changes the mark: what was remembered under the old one is never asked for again.
    private func mark(_ credential: CredentialRow, _ password: [UInt8]) -> [UInt8] {
        var mac = HMAC<SHA256>(key: processKey)
        withUnsafeBytes(of: credential.id.uuid) { mac.update(data: $0) }
        mac.update(data: credential.storedKey)
        mac.update(data: password)
        return Array(mac.finalize())
    }

    private static func storedKey(_ password: [UInt8], salt: [UInt8], iterations: Int32) -> [UInt8]? {
        try? CredentialRow.keys(password: password, salt: salt, iterations: iterations).stored
    }

    private static func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        var difference: UInt8 = 0
        for index in left.indices { difference |= left[index] ^ right[index] }
        return difference == 0
    }
}

extension Identity {
    init(_ credential: CredentialRow) {
        self.init(tenant: credential.tenant, credential: (credential.id, credential.username))
    }
}
