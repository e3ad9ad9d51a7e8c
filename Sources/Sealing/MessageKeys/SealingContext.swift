// What a sealed thing belongs to. It is bound as associated data and in every key derivation, so that bytes moved to
// another tenant, message or purpose do not open. It travels in clear and in audit logs: no personal data in it.

import Foundation

/// What a key is for; who may open differs by purpose.
public enum KeyPurpose: String, Sendable, Codable, CaseIterable {
    /// The message itself: opened by workers only.
    case content
    /// Envelope, addresses and details of events: opened by workers and by the API.
    case metadata

    /// The byte that stands for the purpose in sealed formats.
    var code: UInt8 {
        switch self {
        case .content: 1
        case .metadata: 2
        }
    }

    init?(code: UInt8) {
        guard let purpose = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = purpose
    }
}

/// The encryption context of one message and purpose.
public struct SealingContext: Sendable, Hashable {
    /// The tenant's stable name.
    public var tenant: String
    /// The message's id.
    public var message: UUID
    /// Content or metadata.
    public var purpose: KeyPurpose

    /// Makes a context.
    public init(tenant: String, message: UUID, purpose: KeyPurpose) {
        self.tenant = tenant
        self.message = message
        self.purpose = purpose
    }

    /// Associated data: a label that names the use, bytes of that use, then tenant, message and purpose.
    func associatedData(_ label: StaticString, _ more: some Sequence<UInt8> = EmptyCollection()) -> [UInt8] {
        var writer = ByteWriter(reserve: 128)
        label.withUTF8Buffer { writer.fixed($0) }
        writer.integer(UInt8(0))
        writer.text(tenant)
        writer.uuid(message)
        writer.integer(purpose.code)
        writer.fixed(more)
        return writer.bytes
    }
}
