// Connections to Patroni and etcd with the certificates of whoever asks, from their files.

import Foundation
import HTTPClient
import Ledger
import NIOPosix

extension MemberHTTP {
    /// Connections of whoever `identity` names.
    /// - Parameter code: what it is when a file cannot be read or used.
    /// - Throws: `code`, with the file.
    init(_ identity: MemberIdentity, orElse code: ClusterError.Code) throws(ClusterError) {
        func read(_ path: String) throws(ClusterError) -> [UInt8] {
            guard let data = FileManager.default.contents(atPath: path) else {
                throw ClusterError(code, "\(path) cannot be read")
            }
            return Array(data)
        }
        let (authority, certificate, key) = (
            try read(identity.authority), try read(identity.certificate), try read(identity.key)
        )
        do {
            try self.init(
                authorityPEM: authority,
                identity: HTTPClientIdentity(certificateChainPEM: certificate, privateKeyPEM: key),
                group: MultiThreadedEventLoopGroup.singleton)
        } catch {
            throw ClusterError(
                code, "\(identity.authority), \(identity.certificate) or its key cannot be used: \(error)")
        }
    }
}
