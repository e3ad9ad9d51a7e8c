// What the worker knows of tenants and key sets: a snapshot of the control schema, taken again when its version number moves.

import Crypto
import Foundation
import Ledger
import Logging
import Sealing
import Synchronization

/// The worker's cached picture of the control schema.
final class ControlWatch: Sendable {
    /// Time between looks at the version number.
    static let interval: Duration = .seconds(1)

    private let ledger: ControlLedger
    private let root: Curve25519.Signing.PublicKey
    private let sealer: SealerBox
    private let logger: Logger
    private let tenants = Mutex<[String: TenantRow]>([:])

    init(ledger: ControlLedger, root: Curve25519.Signing.PublicKey, sealer: SealerBox, logger: Logger) {
        self.ledger = ledger
        self.root = root
        self.sealer = sealer
        self.logger = logger
    }

    /// Whether a tenant wants what is in doubt held rather than sent again; nil: not known.
    func holdsInDoubt(_ tenant: String) -> Bool? {
        tenants.withLock { $0[tenant].map { !$0.resendsInDoubt } }
    }

    /// The tenants that want what is in doubt held.
    var tenantsThatHold: [String] {
        tenants.withLock { $0.filter { !$0.value.resendsInDoubt }.map(\.key) }
    }

    /// Takes the snapshot once; throws what the database throws.
    func refresh() async throws -> Int64 {
        let snapshot = try await ledger.snapshot(credentials: false)
        tenants.withLock { $0 = snapshot.tenants }
        if let signed = snapshot.signedKeySet {
            do {
                let keySet = try RegionKeySet.open(
                    signed, root: root, now: Date(), atLeastVersion: sealer.keySetVersion ?? 0)
                sealer.replace(keySet: keySet)
            } catch {
                logger.error("the region key set is not taken into use", metadata: ["error": "\(error)"])
            }
        } else {
            logger.warning("there is no region key set yet: nothing ends that needs a notification")
        }
        return snapshot.version
    }

    /// Looks again until cancelled.
    func run() async {
        var known: Int64?
        var round = 0
        while !Task.isCancelled {
            do {
                if try await ledger.version().number != known { known = try await refresh() }
            } catch {
                if Task.isCancelled { return }
                logger.warning("the control schema cannot be read", metadata: ["error": "\(error)"])
            }
            round += 1
            if round % 60 == 0 { sealer.eraseExpired(now: Date()) }
            try? await Task.sleep(for: Self.interval)
        }
    }
}
