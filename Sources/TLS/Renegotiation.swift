// Renegotiation as a client before TLS 1.3 (RFC 5246 §7.4.1.1, RFC 5746): only a probe asks for it, to learn whether a server allows it.

import CLibSSL

/// An outbound user event: start another handshake on a connection whose context allows it. A refusal is a `TLSError`.
public struct TLSRenegotiationRequest: Sendable {
    /// One more handshake.
    public init() {}
}

/// The user inbound event that `TLSHandler` fires when a handshake that was asked for is complete.
public struct TLSRenegotiated: Sendable {}

extension TLSConnection {
    /// Begins another handshake.
    func renegotiate() -> HandshakeResult {
        ERR_clear_error()
        guard SSL_renegotiate(ssl) == 1 else { return .failed(.takingQueue(.handshakeFailed)) }
        return handshake()
    }

    /// Whether no handshake is under way.
    var isSettled: Bool { SSL_renegotiate_pending(ssl) == 0 && SSL_is_init_finished(ssl) == 1 }

    /// How much early data the last ticket allows, in bytes (RFC 8446 §4.2.10); 0: none, or no ticket came.
    var maximumEarlyData: Int { SSL_get_session(ssl).map { Int(SSL_SESSION_get_max_early_data($0)) } ?? 0 }
}
