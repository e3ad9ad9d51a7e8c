// An address that cannot be listened on, in words that name it.

import Foundation
import NIOCore
import Settings

/// Thrown by servers that cannot bind.
public struct CannotListen: Error, Sendable, CustomStringConvertible {
    /// The address.
    public var address: HostPort
    /// The system's words.
    public var reason: String

    /// An address and why it cannot be had.
    public init(_ address: HostPort, _ error: any Error) {
        self.address = address
        // NIO's own text names the system call before the reason.
        self.reason = (error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(error)"
    }

    /// One line.
    public var description: String { "cannot listen on \(address): \(reason.lowercased())" }
}
