// Free TCP ports on a loopback address.

import Foundation

/// Hands out ports that nobody listens on, below the range that the kernel gives to outgoing connections, so that a remembered
/// port is still free at the next start.
public struct LoopbackPorts {
    private var given: Set<Int>
    private let address: String

    /// Ports on `address`; never one of `taken`.
    public init(address: String = "127.0.0.1", taken: Set<Int> = []) {
        self.address = address
        self.given = taken
    }

    /// A port that was free a moment ago and was not given before.
    public mutating func next() throws(ClusterError) -> Int {
        for _ in 0..<500 {
            let port = Int.random(in: 18_000..<32_000)
            if !given.contains(port), Self.isFree(port, on: address) {
                given.insert(port)
                return port
            }
        }
        throw ClusterError(.environment, "no free port between 18000 and 32000 on \(address)")
    }

    /// Whether a server could listen there now. At an address that is not here, but in a network namespace, everything is free.
    public static func isFree(_ port: Int, on address: String) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = in_port_t(port).bigEndian
        name.sin_addr.s_addr = inet_addr(address)
        return withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 || errno == EADDRNOTAVAIL
            }
        }
    }
}
