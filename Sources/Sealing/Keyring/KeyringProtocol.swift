// What is said on the keyring's socket. Every frame: length of the rest 4 ‖ version 1 ‖ kind 1 ‖ request id 16 ‖ body.
//   → 1 unwrap: batch id 16, tenant, purpose 1, epoch 4, then the entry as in the record (region, key id, algorithm,
//     encapsulated key, ciphertext)
//   ← 2 opened: 32 bytes
//   ← 3 failed: code 1 (1 unavailable, 2 denied, 3 destroyed, 4 malformed), sentence
// Requests are pipelined and answered in any order. A frame of another version, kind or length ends the connection.

import Foundation

/// Sizes and codes both ends share.
enum KeyringProtocol {
    static let version: UInt8 = 1
    static let lengthCount = 4
    static let headerCount = 18
    /// Longest frame behind its length, in bytes.
    static let maximumFrame = 8192

    enum Kind: UInt8 {
        case unwrap = 1
        case opened = 2
        case failed = 3
    }

    /// What ends a connection.
    struct Violation: Error {}

    static func frame(_ kind: Kind, _ request: UUID, body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(reserve: lengthCount + headerCount + body.count)
        writer.integer(UInt32(headerCount + body.count))
        writer.integer(version)
        writer.integer(kind.rawValue)
        writer.uuid(request)
        writer.fixed(body)
        return writer.bytes
    }

    /// Splits a frame (without its length).
    static func open(_ frame: [UInt8]) throws(Violation) -> (kind: Kind, request: UUID, body: [UInt8]) {
        do {
            var reader = ByteReader(frame)
            guard try reader.integer(UInt8.self) == version,
                let kind = Kind(rawValue: try reader.integer(UInt8.self))
            else { throw Violation() }
            let request = try reader.uuid()
            return (kind, request, try reader.fixed(reader.remaining))
        } catch {
            throw Violation()
        }
    }
}

/// The body of an unwrap request.
struct UnwrapRequest: Sendable, Hashable {
    var batch: BatchKeyContext
    var wrapped: WrappedBatchKey

    var encoded: [UInt8] {
        var writer = ByteWriter(reserve: 1400)
        writer.uuid(batch.id)
        writer.text(batch.tenant)
        writer.integer(batch.purpose.code)
        writer.integer(batch.epoch)
        wrapped.write(to: &writer)
        return writer.bytes
    }

    init(batch: BatchKeyContext, wrapped: WrappedBatchKey) {
        self.batch = batch
        self.wrapped = wrapped
    }

    init(decoding body: [UInt8]) throws(ByteReader.Malformed) {
        var reader = ByteReader(body)
        let id = try reader.uuid()
        let tenant = try reader.text(limit: 1024)
        guard let purpose = KeyPurpose(code: try reader.integer(UInt8.self)) else {
            throw ByteReader.Malformed()
        }
        let epoch = try reader.integer(Int32.self)
        batch = BatchKeyContext(id: id, tenant: tenant, purpose: purpose, epoch: epoch)
        wrapped = try WrappedBatchKey(from: &reader)
        try reader.end()
    }
}

extension KeyServiceError {
    var encoded: [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .unavailable(let why):
            writer.integer(UInt8(1))
            writer.text(why)
        case .denied:
            writer.integer(UInt8(2))
            writer.text("")
        case .destroyed:
            writer.integer(UInt8(3))
            writer.text("")
        case .malformed:
            writer.integer(UInt8(4))
            writer.text("")
        }
        return writer.bytes
    }

    init(decoding body: [UInt8]) throws(ByteReader.Malformed) {
        var reader = ByteReader(body)
        let code = try reader.integer(UInt8.self)
        let why = try reader.text(limit: 1024)
        try reader.end()
        switch code {
        case 1: self = .unavailable(why)
        case 2: self = .denied
        case 3: self = .destroyed
        case 4: self = .malformed
        default: throw ByteReader.Malformed()
        }
    }
}
