// Fetches a policy from its host (RFC 8461 §3.3): HTTPS with a certificate for `mta-sts.<domain>`, status 200 and no other,
// nothing followed, text/plain, 64 KB, a minute.
import DNS
import Foundation
import HTTPClient
import NIOCore
import Policy
import Settings
import TLS

/// What a fetch came to.
public enum MTASTSFetched: Sendable {
    /// A valid policy.
    case policy(MTASTSPolicy)
    /// The domain's own failure, by its type in RFC 8460 §4.3.2.1, with its words.
    case failed(ReasonCode, String)
    /// Ours: too much is under way, or the process ends. Nothing follows from it.
    case gaveUp(String)
}

/// Fetches policies.
public struct MTASTSFetcher: Sendable {
    private let client: HTTPClient
    private let port: Int
    private let deadline: Duration

    /// A fetcher with the roots, networks and port that are configured.
    ///
    /// - Parameters:
    ///   - resolver: answers for policy hosts.
    ///   - group: whose event loops carry the connections.
    ///   - deadline: for a whole fetch (§3.3 suggests a minute).
    /// - Throws: when the roots cannot be read.
    public init(
        _ settings: PolicySettings, resolver: any DNSResolving, group: any EventLoopGroup,
        deadline: Duration = .seconds(60)
    ) throws {
        var configuration = HTTPClientConfiguration()
        configuration.addressPolicy = AddressPolicy(
            allowed: settings.allowedNetworks.compactMap { CIDR($0.description) })
        client = try HTTPClient(
            trust: TLSContext.TrustRoots(file: settings.trustRoots), resolver: resolver, group: group,
            configuration: configuration)
        port = settings.port
        self.deadline = deadline
    }

    /// Ends idle connections and takes on nothing more.
    public func shutDown() { client.shutDown() }

    /// Fetches the policy of a domain, which is the recipient's own and never that of an alias or a host (§3.4).
    public func fetch(_ domain: DomainName) async -> MTASTSFetched {
        guard let host = domain.below("mta-sts") else {
            return .failed(.stsPolicyFetchError, "\(domain): the name of its policy host is too long")
        }
        let response: HTTPResponse
        do throws(HTTPClientError) {
            let url = try HTTPSURL(host: .name(host), port: port, target: "/.well-known/mta-sts.txt")
            response = try await client.send(
                HTTPRequest(.get, url),
                HTTPLimits(maximumBodyBytes: MTASTSPolicy.maximumBodySize, deadline: deadline))
        } catch {
            switch error.code {
            case .tooManyWaiting, .cancelled, .shutDown: return .gaveUp("\(host): \(error)")
            case .certificateRejected: return .failed(.stsWebPKIInvalid, "\(host): \(error)")
            case .tooLarge: return .failed(.stsPolicyInvalid, "\(host): \(error)")
            default: return .failed(.stsPolicyFetchError, "\(host): \(error)")
            }
        }
        guard response.status == 200 else {
            return .failed(.stsPolicyFetchError, "\(host): HTTP status \(response.status)")
        }
        guard response.fields.mediaType == "text/plain" else {
            return .failed(.stsPolicyInvalid, "\(host): the policy is not text/plain")
        }
        do throws(MTASTSPolicyError) {
            return .policy(try MTASTSPolicy(body: response.body))
        } catch {
            return .failed(error.resultType, "\(host): \(error)")
        }
    }
}
