// Why there is no answer, as one type: a code for programs, a reason for people, and what they can do about it.

import DNS
import TLS

/// A request that has no answer. Its words hold host names and addresses of servers at most, never a path, a field or a body.
public struct HTTPClientError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The name of the code in logs.
        public let description: String
        init(_ description: String) { self.description = description }

        /// The request or its URL is not one that can be sent.
        public static let invalidRequest = Code("invalid request")
        /// The name could not be looked up: nothing follows about what exists.
        public static let dnsFailure = Code("DNS failure")
        /// The name does not exist or has no address.
        public static let noAddress = Code("no address")
        /// Every address of the host is in a network that may not be connected to.
        public static let addressRefused = Code("address refused by policy")
        /// The host refused the connection.
        public static let connectRefused = Code("connection refused")
        /// The host did not answer the connection attempt in time.
        public static let connectTimeout = Code("connect timeout")
        /// The host cannot be reached for another reason.
        public static let unreachable = Code("unreachable")
        /// The certificate did not pass: `chainFaults` and `nameMatched` tell why. No request was sent.
        public static let certificateRejected = Code("certificate rejected")
        /// The TLS handshake or session failed for another reason.
        public static let tlsFailure = Code("TLS failure")
        /// What the server sent is not HTTP as it must be.
        public static let protocolError = Code("protocol error")
        /// The server ended the connection before its answer was whole.
        public static let connectionClosed = Code("connection closed")
        /// The server turned the request away without having looked at it (RFC 9113 §8.7).
        public static let requestRefused = Code("request refused")
        /// The answer is larger than the caller allows, or its header than anybody does.
        public static let tooLarge = Code("too large")
        /// The server sends far more than an answer needs.
        public static let flooded = Code("flooded")
        /// The exchange was not over in time.
        public static let deadline = Code("deadline")
        /// Too many requests wait already.
        public static let tooManyWaiting = Code("too many waiting")
        /// The caller gave up.
        public static let cancelled = Code("cancelled")
        /// The client is shut down.
        public static let shutDown = Code("shut down")
    }

    /// What kind of failure it is.
    public var code: Code
    /// What happened, one sentence fragment.
    public var reason: String
    /// What is wrong with the server's certificates; empty unless the code is `certificateRejected`.
    public var chainFaults: [ChainFault] = []
    /// Whether the certificate carries the host of the URL; nil: it was not asked.
    public var nameMatched: Bool?
    /// The address that was connected to, where there was one.
    public var address: IPAddress?
    /// What TLS showed of the server, where a handshake was completed.
    public var evidence: PeerEvidence?

    init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    /// What can be done about it.
    public var advice: String {
        switch code {
        case .invalidRequest: "correct the URL or the fields of the request"
        case .dnsFailure: "try again later; look at the resolver and at the zone of the host"
        case .noAddress: "check the host name; its zone has no address for it"
        case .addressRefused:
            "if this host is meant to be in that network, name the network among those that are allowed"
        case .connectRefused, .connectTimeout, .unreachable:
            "try again later; check that the host is up and that no firewall is in between"
        case .certificateRejected: "the host's operator must present a valid certificate for its name"
        case .tlsFailure: "try again later; the host must speak TLS 1.2 or newer with forward secrecy"
        case .protocolError, .flooded, .connectionClosed: "try again later; the fault is the server's"
        case .requestRefused: "try again; the server did not take this request up"
        case .tooLarge: "the answer cannot be used; allow a larger one where that makes sense"
        case .deadline: "try again later, or allow more time"
        case .tooManyWaiting: "try again later; allow more connections where this is usual load"
        case .cancelled, .shutDown: "nothing; the request was given up here"
        default: "try again later"
        }
    }

    /// Code and reason.
    public var description: String { reason.isEmpty ? "\(code)" : "\(code): \(reason)" }
}

extension HTTPClientError {
    /// Of a certificate that did not pass, with what its handshake showed.
    static func certificateRejected(_ evidence: PeerEvidence) -> HTTPClientError {
        var reasons: [String] = []
        var error = HTTPClientError(.certificateRejected, "")
        switch evidence.verification {
        case .valid: break
        case .failed(let faults):
            error.chainFaults = faults
            reasons += faults.map(\.description)
        case .notPresented: reasons.append("no certificate was presented")
        }
        if evidence.nameMatched != true { reasons.append("the certificate is for another name") }
        error.reason = reasons.joined(separator: "; ")
        error.nameMatched = evidence.nameMatched
        error.evidence = evidence
        return error
    }
}
