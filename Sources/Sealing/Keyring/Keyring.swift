// The embedded key service's store: the private region keys of one region, one file each. They do not leave it: what
// comes out is K₀ of a batch key that was wrapped for them. Destroying an epoch leaves a tombstone, so that "destroyed"
// can be told from "not there".
//   <purpose>-<epoch>.key: "ZGRK" ‖ format 1 ‖ purpose 1 ‖ epoch 4 ‖ not before 8 ‖ not after 8 ‖ X-Wing seed 32
//   ‖ SHA3-256 of the public key 32

import Crypto
import Foundation
import Synchronization

/// The private region keys of one region on disk.
public final class Keyring: Sendable {
    struct Slot: Hashable {
        var purpose: KeyPurpose
        var epoch: Int32

        var name: String { "\(purpose.rawValue)-\(epoch)" }
        var keyFile: String { "\(name).key" }
        var tombstone: String { "\(name).destroyed" }

        init(_ purpose: KeyPurpose, _ epoch: Int32) {
            self.purpose = purpose
            self.epoch = epoch
        }

        init?(keyFile: String) {
            guard keyFile.hasSuffix(".key"), let dash = keyFile.firstIndex(of: "-"),
                let purpose = KeyPurpose(rawValue: String(keyFile[..<dash])),
                let epoch = Int32(keyFile[keyFile.index(after: dash)...].dropLast(4))
            else { return nil }
            self.init(purpose, epoch)
            if self.keyFile != keyFile { return nil }
        }
    }

    struct Loaded {
        var key: XWingMLKEM768X25519.PrivateKey
        var publicHalf: RegionKey
    }

    /// The region whose keys these are.
    public let region: String

    private let directory: PrivateDirectory
    private let loaded = Mutex<[Slot: Loaded]>([:])

    private static let magic = Array("ZGRK".utf8)
    private static let format: UInt8 = 1
    private static let regionFile = "region"
    private static let loadedLimit = 128

    /// How long before its epoch, and after it, a key may wrap: clocks of edges differ.
    private static let margin: TimeInterval = 3600

    /// Opens the keyring in `directory`, or makes an empty one for `region`.
    ///
    /// - Throws: `KeyringError`, with `insecurePermissions` unless the directory is its user's own with mode 0700.
    public init(directory path: String, region: String, create: Bool = false) throws(KeyringError) {
        directory = try PrivateDirectory(path, create: create)
        self.region = region
        if let stored = try directory.read(Self.regionFile) {
            guard ConstantTime.areEqual(stored, Array(region.utf8)) else {
                throw KeyringError(.wrongRegion, "\(path): the keyring of another region than \(region)")
            }
        } else if create {
            try directory.write(Self.regionFile, SecretBytes(copying: Array(region.utf8)))
            try directory.synchronize()
        } else {
            throw KeyringError(.corrupt, "\(path): no keyring; run: zegel keyring generate")
        }
    }

    /// Makes the keys of these epochs that are not there yet; destroyed ones stay destroyed.
    ///
    /// - Returns: how many were made.
    @discardableResult
    public func generate(
        epochs: ClosedRange<Int32>, purposes: [KeyPurpose] = KeyPurpose.allCases,
        epochSeconds: Int32 = KeyEpoch.defaultSeconds
    ) throws -> Int {
        let lock = try directory.lock("generate.lock", wait: true)
        defer { withExtendedLifetime(lock) {} }
        var made = 0
        for purpose in purposes {
            for epoch in epochs {
                let slot = Slot(purpose, epoch)
                if directory.exists(slot.keyFile) || directory.exists(slot.tombstone) { continue }
                try directory.write(slot.keyFile, try Self.encodeNewKey(slot, epochSeconds: epochSeconds))
                made += 1
            }
        }
        if made > 0 { try directory.synchronize() }
        return made
    }

    /// The public halves of all keys that are not destroyed.
    public func publicKeys() throws(KeyringError) -> [RegionKey] {
        var keys: [RegionKey] = []
        for name in try directory.names() {
            guard let slot = Slot(keyFile: name) else { continue }
            if directory.exists(slot.tombstone) {
                // Whoever destroyed it was broken off while it was erased.
                try directory.destroy(slot.keyFile)
                continue
            }
            guard let loaded = try load(slot) else { continue }
            keys.append(loaded.publicHalf)
        }
        return keys.sorted(by: RegionKeySet.isOrdered)
    }

    /// Destroys the private key of an epoch. Nothing sealed for it in this region can be opened again.
    ///
    /// The tombstone is durable before the key goes; then the file is overwritten and removed. Copies that a journal,
    /// snapshot or flash translation layer keeps are out of reach: keep the directory on storage that has none.
    public func destroy(_ purpose: KeyPurpose, epoch: Int32) throws(KeyringError) {
        let lock = try directory.lock("generate.lock", wait: true)
        defer { withExtendedLifetime(lock) {} }
        let slot = Slot(purpose, epoch)
        try directory.write(slot.tombstone, SecretBytes(count: 0) { _ in })
        try directory.synchronize()
        try directory.destroy(slot.keyFile)
        forget(slot)
    }

    /// Opens a batch key. Callers decide who may and write the audit record (`KeyringDesk`).
    func open(_ wrapped: WrappedBatchKey, of batch: BatchKeyContext) throws(KeyServiceError) -> SecretBytes {
        guard wrapped.region == region else { throw .malformed }
        let slot = Slot(batch.purpose, batch.epoch)
        // Another process may have destroyed it a moment ago: the disk decides, not what is in memory.
        guard !directory.exists(slot.tombstone) else {
            forget(slot)
            throw .destroyed
        }
        guard directory.exists(slot.keyFile) else {
            forget(slot)
            throw .unavailable("this keyring has no \(batch.purpose.rawValue) key of epoch \(batch.epoch)")
        }
        let found: Loaded?
        do throws(KeyringError) {
            found = try load(slot)
        } catch {
            throw .unavailable("the key of epoch \(batch.epoch) cannot be read")
        }
        guard let found else { throw .unavailable("the key of epoch \(batch.epoch) went away") }
        guard found.publicHalf.keyID == wrapped.keyID else { throw .malformed }
        return try wrapped.unwrap(with: found.key, context: batch)
    }

    /// Takes the lock of the one process that may serve this keyring at a socket. A cluster and what was restored from it have sockets of
    /// their own: what is destroyed, the disk tells both.
    func lockForServing(at socket: String?) throws(KeyringError) -> PrivateDirectory.Lock {
        let name = SHA256.hash(data: Array((socket ?? "").utf8)).prefix(8)
            .map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        return try directory.lock("serve-\(name).lock", wait: false)
    }

    private func forget(_ slot: Slot) { loaded.withLock { _ = $0.removeValue(forKey: slot) } }

    func load(_ slot: Slot) throws(KeyringError) -> Loaded? {
        if let found = loaded.withLock({ $0[slot] }) { return found }
        guard let bytes = try directory.read(slot.keyFile) else { return nil }
        guard let read = Self.decode(bytes, slot: slot, region: region) else {
            throw KeyringError(.corrupt, "\(directory.path)/\(slot.keyFile): not a key of this keyring")
        }
        loaded.withLock { loaded in
            if loaded.count >= Self.loadedLimit, let any = loaded.keys.min(by: { $0.epoch < $1.epoch }) {
                loaded.removeValue(forKey: any)
            }
            loaded[slot] = read
        }
        return read
    }

    private static func encodeNewKey(_ slot: Slot, epochSeconds: Int32) throws -> SecretBytes {
        let key = try XWingMLKEM768X25519.PrivateKey.generate()
        var header = ByteWriter()
        header.fixed(magic)
        header.integer(format)
        header.integer(slot.purpose.code)
        header.integer(slot.epoch)
        let start = KeyEpoch.start(of: slot.epoch, seconds: epochSeconds)
        let slack = min(margin, Double(epochSeconds))
        header.integer(Int64(start.timeIntervalSince1970 - slack))
        header.integer(Int64(start.timeIntervalSince1970 + Double(epochSeconds) + slack))
        var secret = key.integrityCheckedRepresentation
        defer { Erasure.erase(&secret) }
        return SecretBytes(count: header.bytes.count + secret.count) { buffer in
            buffer.copyBytes(from: header.bytes)
            UnsafeMutableRawBufferPointer(rebasing: buffer[header.bytes.count...]).copyBytes(from: secret)
        }
    }

    private static func decode(_ bytes: SecretBytes, slot: Slot, region: String) -> Loaded? {
        let headerCount = 26
        guard bytes.count == headerCount + 64 else { return nil }
        do {
            var reader = ByteReader(bytes.withUnsafeBytes { Array($0[..<headerCount]) })
            guard try reader.fixed(4) == magic, try reader.integer(UInt8.self) == format,
                try reader.integer(UInt8.self) == slot.purpose.code,
                try reader.integer(Int32.self) == slot.epoch
            else { return nil }
            let notBefore = Date(timeIntervalSince1970: Double(try reader.integer(Int64.self)))
            let notAfter = Date(timeIntervalSince1970: Double(try reader.integer(Int64.self)))
            let key = try bytes.withUnsafeBytes { raw in
                try XWingMLKEM768X25519.PrivateKey(
                    integrityCheckedRepresentation: UnsafeRawBufferPointer(rebasing: raw[headerCount...]))
            }
            let publicHalf = RegionKey(
                region: region, purpose: slot.purpose, epoch: slot.epoch, notBefore: notBefore,
                notAfter: notAfter, algorithm: .xwing, publicKey: Array(key.publicKey.rawRepresentation))
            return Loaded(key: key, publicHalf: publicHalf)
        } catch {
            return nil
        }
    }
}
