// Why a session could not be opened or ended early: a kind that a retry policy switches on, and the facts behind it.

import Foundation
import NIOCore
import Policy
import SMTP
import TLS

/// Why a session could not be opened, or ended before its time.
public struct SessionFailure: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Code: String, Sendable, Hashable {
        /// Nobody listens at the address.
        case connectionRefused
        /// No connection within the limit.
        case connectTimeout
        /// No route, no such source address, or another failure to connect.
        case unreachable
        /// The host greeted with something else than 220.
        case greetingRefused
        /// Neither EHLO nor HELO was accepted.
        case helloRefused
        /// TLS is required and STARTTLS was not offered.
        case startTLSNotOffered
        /// TLS is required and STARTTLS was refused.
        case startTLSRefused
        /// Bytes in clear behind the answer to STARTTLS (RFC 3207 §5).
        case startTLSInjection
        /// The TLS handshake failed; `tls` says how.
        case handshakeFailed
        /// What the host sent is not SMTP, or not in its turn.
        case protocolViolation
        /// The host closed with 421.
        case closedByHost
        /// The connection ended or broke.
        case connectionLost
        /// The host did not answer, or took no bytes, within the limit of that step.
        case timeout
        /// `mayEndContent` said no: the final dot was not sent.
        case stopped
        /// The content could not be read, or holds a bare CR or LF: the final dot was not sent.
        case contentFailed
        /// The task was cancelled before the final dot.
        case cancelled
    }

    /// What kind of failure it is.
    public var code: Code
    /// What was being waited for or done, in a word or two.
    public var step: String
    /// The reply that caused it, if one did.
    public var reply: SMTPReply?
    /// The failure of TLS behind it, if there is one.
    public var tls: TLSError?
    /// What else is known, such as the operating system's words; no personal data.
    public var detail: String

    /// A failure; see each property.
    public init(
        _ code: Code, step: String = "", reply: SMTPReply? = nil, tls: TLSError? = nil, detail: String = ""
    ) {
        self.code = code
        self.step = step
        self.reply = reply
        self.tls = tls
        self.detail = detail
    }

    init(machine failure: SMTPClientMachine.Failure, step: String) {
        switch failure {
        case .greetingRefused(let reply): self.init(.greetingRefused, step: step, reply: reply)
        case .helloRefused(let reply): self.init(.helloRefused, step: step, reply: reply)
        case .startTLSNotOffered: self.init(.startTLSNotOffered, step: step)
        case .startTLSRefused(let reply): self.init(.startTLSRefused, step: step, reply: reply)
        case .bytesBehindStartTLS: self.init(.startTLSInjection, step: step)
        case .malformedReply(let error): self.init(.protocolViolation, step: step, detail: "\(error)")
        case .unexpectedReply(let reply): self.init(.protocolViolation, step: step, reply: reply)
        case .closing(let reply): self.init(.closedByHost, step: step, reply: reply)
        case .closed: self.init(.connectionLost, step: step)
        }
    }

    init(connecting error: any Error) {
        switch error {
        case let failure as SessionFailure: self = failure
        case ChannelError.connectTimeout: self.init(.connectTimeout, step: "connect")
        case let error as IOError where error.errnoCode == ECONNREFUSED:
            self.init(.connectionRefused, step: "connect")
        case let error as IOError where error.errnoCode == ETIMEDOUT:
            self.init(.connectTimeout, step: "connect")
        case is CancellationError: self.init(.cancelled, step: "connect")
        default: self.init(.unreachable, step: "connect", detail: "\(error)")
        }
    }

    /// Code, step and facts; a reply's text may name a mailbox and is left out.
    public var description: String {
        var text = step.isEmpty ? code.rawValue : "\(code.rawValue) (\(step))"
        if let reply { text += ": \(reply.code)\(reply.enhanced.map { " \($0)" } ?? "")" }
        if let tls { text += ": \(tls)" }
        if !detail.isEmpty { text += ": \(detail)" }
        return text
    }
}

extension SMTPClientMachine.Awaiting {
    var step: String {
        switch self {
        case .nothing: "idle"
        case .greeting: "greeting"
        case .hello: "EHLO"
        case .envelope: "envelope"
        case .data: "DATA"
        case .content: "content"
        case .finalDot: "final dot"
        case .quit: "QUIT"
        }
    }
}

extension SessionFailure {
    /// Whether there was no connection at all: that tells nothing new of a host that was refused at another of its addresses.
    public var isBeforeGreeting: Bool {
        code == .connectionRefused || code == .connectTimeout || code == .unreachable
    }

    /// The reason of a deferral.
    public var reason: ReasonCode {
        switch code {
        case .connectionRefused: .connectionRefused
        case .connectTimeout, .unreachable, .timeout: .connectionTimeout
        case .greetingRefused, .helloRefused, .closedByHost: .remoteDeferred
        case .startTLSNotOffered: .starttlsNotSupported
        case .startTLSRefused, .startTLSInjection, .handshakeFailed: .tlsHandshakeFailed
        case .protocolViolation: .protocolViolation
        case .connectionLost, .stopped, .contentFailed, .cancelled: .connectionLost
        }
    }
}
