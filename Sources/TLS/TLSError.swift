// What goes wrong in TLS, as one type; and the only reader of OpenSSL's error queue.

import CLibSSL

/// A failure of TLS: of a context's material, of a handshake, or of a connection. Holds no key bytes and no content.
public struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The name of the code in logs.
        public let description: String
        init(_ description: String) { self.description = description }

        /// A certificate or authority could not be read.
        public static let invalidCertificate = Code("invalid certificate")
        /// A private key could not be read.
        public static let invalidPrivateKey = Code("invalid private key")
        /// The private key does not belong to the certificate.
        public static let keyMismatch = Code("private key does not match certificate")
        /// A setting of the context (cipher list, ALPN name, server name) is not usable.
        public static let invalidConfiguration = Code("invalid configuration")
        /// The handshake failed for another reason than those below.
        public static let handshakeFailed = Code("handshake failed")
        /// The peer's certificate did not satisfy `TLSVerification.require`.
        public static let certificateRejected = Code("certificate rejected")
        /// There is no protocol version that both sides allow.
        public static let protocolVersion = Code("no common protocol version")
        /// What the peer sent is not TLS.
        public static let notTLS = Code("not TLS")
        /// The connection ended inside the handshake.
        public static let closedInHandshake = Code("closed in handshake")
        /// The handshake took too long.
        public static let handshakeTimeout = Code("handshake timeout")
        /// The connection ended without close_notify: what was received may be cut short (RFC 8446 §6.1).
        public static let truncated = Code("closed without close_notify")
        /// The peer ended the connection with a fatal alert.
        public static let alert = Code("alert from peer")
        /// A record could not be read: altered, malformed or out of order.
        public static let badRecord = Code("bad record")
        /// More was written before the handshake ended than is kept.
        public static let bufferLimit = Code("too much written before the handshake ended")
        /// The peer asks for new keys or a new handshake again and again.
        public static let requestsWithoutEnd = Code("requests for new keys or handshakes without end")
        /// OpenSSL could not do what it always can, such as allocate.
        public static let `internal` = Code("internal")
    }

    /// What kind of failure it is.
    public var code: Code
    /// One sentence fragment for people, mostly OpenSSL's own words.
    public var reason: String
    /// The alert number the peer sent (RFC 8446 §6), if it sent one.
    public var peerAlert: Int?

    init(_ code: Code, _ reason: String, peerAlert: Int? = nil) {
        self.code = code
        self.reason = reason
        self.peerAlert = peerAlert
    }

    /// Code and reason.
    public var description: String { reason.isEmpty ? "\(code)" : "\(code): \(reason)" }
}

extension TLSError {
    /// Takes everything from this thread's OpenSSL error queue and leaves it empty. The oldest entry is the cause.
    static func takingQueue(_ code: Code) -> TLSError {
        var result = TLSError(code, "")
        var reasons: [String] = []
        while true {
            let entry = ERR_get_error()
            if entry == 0 { break }
            if let text = ERR_reason_error_string(entry) { reasons.append(String(cString: text)) }
            guard zegel_ERR_library(entry) == ERR_LIB_SSL else { continue }
            let reason = zegel_ERR_reason(entry)
            if reason > SSL_AD_REASON_OFFSET, reason < SSL_AD_REASON_OFFSET + 256, result.peerAlert == nil {
                result.peerAlert = Int(reason - SSL_AD_REASON_OFFSET)
            }
            if let narrower = narrowerCode(reason) { result.code = narrower }
        }
        if result.peerAlert != nil, result.code == .badRecord { result.code = .alert }
        result.reason = reasons.joined(separator: "; ")
        return result
    }

    private static func narrowerCode(_ reason: Int32) -> Code? {
        switch reason {
        case SSL_R_CERTIFICATE_VERIFY_FAILED: .certificateRejected
        case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_WRONG_SSL_VERSION,
            SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, SSL_R_NO_PROTOCOLS_AVAILABLE:
            .protocolVersion
        case SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST,
            SSL_R_BAD_PROTOCOL_VERSION_NUMBER:
            .notTLS
        default: nil
        }
    }
}
