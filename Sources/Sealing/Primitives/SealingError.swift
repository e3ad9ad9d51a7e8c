// What sealing and opening can fail with. No case carries plaintext, an address or a key.

/// Why something could not be sealed or opened.
public enum SealingError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The bytes, or the context they were said to belong to, are not what was sealed. Nothing of them may be used.
    case integrityFailure
    /// The region key set holds no usable key of this purpose and epoch for every region.
    case noUsableKey(KeyPurpose, epoch: Int32)
    /// The region key set that the sealer holds has expired.
    case keySetExpired
    /// A bound was reached (batch keys that wait for their commit, frames of a message, size of a frame).
    case limitReached(String)
    /// The caller broke the contract of the type (a frame after the last, a key of the other purpose).
    case misuse(String)

    /// A sentence without personal data.
    public var description: String {
        switch self {
        case .integrityFailure: "sealed bytes do not belong to this context or were altered"
        case .noUsableKey(let purpose, let epoch):
            "no region key for purpose \(purpose.rawValue) in epoch \(epoch) for every region"
        case .keySetExpired: "the region key set has expired"
        case .limitReached(let what): "limit reached: \(what)"
        case .misuse(let what): "misuse: \(what)"
        }
    }
}
