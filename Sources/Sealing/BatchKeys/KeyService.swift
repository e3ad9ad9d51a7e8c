// What opens batch keys: the embedded keyring over its socket now; others later behind the same protocol.

/// Why a key service did not open a batch key. Only `destroyed` is for ever.
public enum KeyServiceError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Not reachable, too slow, overloaded, or it does not have this key (yet): defer and ask again.
    case unavailable(String)
    /// These credentials may not open keys of this purpose.
    case denied
    /// The private half of that epoch is destroyed: nobody opens it again.
    case destroyed
    /// The wrapped key is not what was wrapped: altered, or of another batch, tenant, purpose or epoch.
    case malformed

    /// A sentence without secrets.
    public var description: String {
        switch self {
        case .unavailable(let why): "key service unavailable: \(why)"
        case .denied: "key service: not allowed"
        case .destroyed: "key service: the key of that epoch is destroyed"
        case .malformed: "key service: the wrapped key is not what was wrapped"
        }
    }
}

/// Opens batch keys with private region keys it does not hand out.
public protocol KeyService: Sendable {
    /// Opens a wrapped batch key.
    ///
    /// - Returns: the 32 bytes of K₀.
    func unwrap(
        _ wrapped: WrappedBatchKey, of batch: BatchKeyContext
    ) async throws(KeyServiceError) -> SecretBytes
}
