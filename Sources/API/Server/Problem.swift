// Errors as every client gets them: application/problem+json (RFC 9457).

import Foundation
import Hummingbird

/// A refusal of a request. `detail` is for the caller: no secrets, no personal data, no inner workings.
struct Problem: Error, HTTPResponseError {
    var status: HTTPResponse.Status
    var title: String
    var detail: String
    var headers = HTTPFields()

    static func badRequest(_ detail: String) -> Problem {
        Problem(status: .badRequest, title: "Bad request", detail: detail)
    }

    static func unauthorized(_ detail: String) -> Problem {
        Problem(
            status: .unauthorized, title: "Unauthorized", detail: detail,
            headers: [.wwwAuthenticate: #"Bearer realm="zegel""#])
    }

    static func forbidden(_ detail: String) -> Problem {
        Problem(status: .forbidden, title: "Forbidden", detail: detail)
    }

    static func notFound(_ detail: String) -> Problem {
        Problem(status: .notFound, title: "Not found", detail: detail)
    }

    static func tooManyRequests(_ detail: String, after seconds: Int) -> Problem {
        Problem(
            status: .tooManyRequests, title: "Too many requests", detail: detail,
            headers: [.retryAfter: "\(seconds)"])
    }

    static func unavailable(_ detail: String) -> Problem {
        Problem(
            status: .serviceUnavailable, title: "Service unavailable", detail: detail,
            headers: [.retryAfter: "2"])
    }

    /// The header names a history that no member has.
    static let foreignPosition = badRequest(
        "'\(ReadPosition.header)' is of another cluster, or of a history that was lost; leave it out to read what is there."
    )

    private struct Body: Encodable {
        var type = "about:blank"
        var title: String
        var status: Int
        var detail: String
    }

    /// The answer.
    var response: Response {
        let body = Body(title: title, status: status.code, detail: detail)
        let bytes = (try? JSONEncoder().encode(body)) ?? Data()
        var headers = headers
        headers[.contentType] = "application/problem+json"
        headers[.cacheControl] = "no-store"
        return Response(
            status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    func response(from request: Request, context: some RequestContext) throws -> Response { response }
}
