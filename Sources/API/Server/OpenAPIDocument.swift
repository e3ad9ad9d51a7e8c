// What the API offers, for machines: OpenAPI 3.1, held equal to the answers by the tests.

/// The document at `/v1/openapi.json`.
enum OpenAPIDocument {
    static let json = #"""
        {
          "openapi": "3.1.0",
          "info": {"title": "Zegel", "version": "1", "summary": "What became of each message, and why."},
          "security": [{"apiKey": []}],
          "paths": {
            "/v1/events": {"get": {
              "operationId": "listEvents",
              "summary": "Every event once: complete and loss-free, in pages.",
              "parameters": [
                {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "A cursor; empty or absent: from the start."},
                {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
                {"name": "wait", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 30, "default": 0}, "description": "Seconds to wait for an event when there is none."},
                {"$ref": "#/components/parameters/Position"}
              ],
              "responses": {
                "200": {"description": "A page.", "headers": {"Zegel-Position": {"$ref": "#/components/headers/Position"}}, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/EventPage"}}}},
                "400": {"$ref": "#/components/responses/Problem"}, "401": {"$ref": "#/components/responses/Problem"},
                "403": {"$ref": "#/components/responses/Problem"}, "429": {"$ref": "#/components/responses/Problem"},
                "503": {"$ref": "#/components/responses/Problem"}
              }}},
            "/v1/messages/{id}": {"get": {
              "operationId": "getMessage",
              "summary": "One message: envelope, recipients, what is open, timeline. Never its content.",
              "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}}, {"$ref": "#/components/parameters/Position"}],
              "responses": {
                "200": {"description": "The message.", "headers": {"Zegel-Position": {"$ref": "#/components/headers/Position"}}, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Message"}}}},
                "400": {"$ref": "#/components/responses/Problem"}, "401": {"$ref": "#/components/responses/Problem"},
                "403": {"$ref": "#/components/responses/Problem"}, "404": {"$ref": "#/components/responses/Problem"},
                "429": {"$ref": "#/components/responses/Problem"}, "503": {"$ref": "#/components/responses/Problem"}
              }}},
            "/v1/messages/{id}/evidence": {"get": {
              "operationId": "getEvidence",
              "summary": "What deliveries and refusals of a message rest on: DNS answers, TLS parameters, certificates, verdicts, digests.",
              "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}}, {"$ref": "#/components/parameters/Position"}],
              "responses": {
                "200": {"description": "Canonical JSON that zegel evidence verify reads.", "headers": {"Zegel-Position": {"$ref": "#/components/headers/Position"}}, "content": {"application/json": {"schema": {"type": "object"}}}},
                "400": {"$ref": "#/components/responses/Problem"}, "401": {"$ref": "#/components/responses/Problem"},
                "403": {"$ref": "#/components/responses/Problem"}, "404": {"$ref": "#/components/responses/Problem"},
                "429": {"$ref": "#/components/responses/Problem"}, "503": {"$ref": "#/components/responses/Problem"}
              }}},
            "/v1/judge": {"get": {
              "operationId": "judgeDomain",
              "summary": "A report on a recipient domain: hosts, findings, verdict by ruleset, what workers' scans found, what to do. Kept for a minute.",
              "parameters": [
                {"name": "domain", "in": "query", "required": true, "schema": {"type": "string"}},
                {"name": "scan", "in": "query", "schema": {"type": "string", "enum": ["kept", "fresh"], "default": "kept"}, "description": "fresh: hosts of which no scan that counts is kept are asked now for everything that they accept, which takes seconds."}
              ],
              "responses": {
                "200": {"description": "The report.", "content": {"application/json": {"schema": {"type": "object"}}}},
                "400": {"$ref": "#/components/responses/Problem"}, "401": {"$ref": "#/components/responses/Problem"},
                "403": {"$ref": "#/components/responses/Problem"}, "404": {"$ref": "#/components/responses/Problem"},
                "429": {"$ref": "#/components/responses/Problem"}, "503": {"$ref": "#/components/responses/Problem"}
              }}},
            "/healthz": {"get": {"operationId": "health", "security": [], "responses": {"200": {"description": "The process answers."}}}},
            "/readyz": {"get": {"operationId": "readiness", "security": [], "responses": {"200": {"description": "Ready."}, "503": {"description": "Not ready; the body names the conditions."}}}}
          },
          "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
            "parameters": {"Position": {"name": "Zegel-Position", "in": "header", "schema": {"type": "string", "maxLength": 16384}, "description": "What an earlier answer said, of any region: this one is not older. A member that is behind is waited for, 2 s at most, or another one asked; else 503."}},
            "headers": {"Position": {"schema": {"type": "string"}, "description": "How far the shards had come. Bring it with the next request, to whichever region, and nothing that you saw is missing."}},
            "responses": {"Problem": {"description": "RFC 9457.", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}},
            "schemas": {
              "Problem": {"type": "object", "required": ["type", "title", "status", "detail"], "properties": {
                "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}}},
              "Event": {"type": "object",
                "required": ["id", "kind", "message_id", "recipient", "tenant", "shard", "at", "reason_code"],
                "properties": {
                  "id": {"type": "string", "format": "uuid"}, "kind": {"type": "string"},
                  "message_id": {"type": ["string", "null"], "format": "uuid"}, "recipient": {"type": ["string", "null"]},
                  "tenant": {"type": "string"}, "shard": {"type": "string"}, "at": {"type": "string", "format": "date-time"},
                  "reason_code": {"type": ["string", "null"]}, "cursor": {"type": "string"}, "detail": {},
                  "possible_duplicate": {"type": "boolean"}, "sealed": {"type": "boolean"}}},
              "EventPage": {"type": "object", "required": ["events", "next"], "properties": {
                "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}}, "next": {"type": "string"},
                "unread": {"type": "array", "items": {"type": "string"}, "description": "Shards that could not be read now: their events come with a later page."}}},
              "Message": {"type": "object",
                "required": ["id", "tenant", "shard", "accepted_at", "ruleset", "size", "recipients", "deliveries", "events"],
                "properties": {
                  "id": {"type": "string", "format": "uuid"}, "tenant": {"type": "string"}, "shard": {"type": "string"},
                  "accepted_at": {"type": "string", "format": "date-time"}, "ruleset": {"type": "string"}, "size": {"type": "integer"},
                  "envelope": {"type": "object", "properties": {
                    "return_path": {"type": "string"}, "body": {"type": "string"}, "smtputf8": {"type": "boolean"},
                    "require_tls": {"type": "boolean"}, "envelope_id": {"type": "string"}}},
                  "recipients": {"type": "array", "items": {"type": "object", "required": ["number", "state"], "properties": {
                    "number": {"type": "integer"}, "address": {"type": "string"}, "state": {"type": "string"}}}},
                  "deliveries": {"type": "array", "items": {"type": "object", "required": ["number", "domain", "state", "due", "attempts"], "properties": {
                    "number": {"type": "integer"}, "domain": {"type": "string"}, "state": {"type": "string"},
                    "due": {"type": "string", "format": "date-time"}, "attempts": {"type": "integer"}}}},
                  "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
                  "reports_on": {"type": "string", "format": "uuid"}, "withdrawn_at": {"type": "string", "format": "date-time"},
                  "shredded_at": {"type": "string", "format": "date-time"}, "sealed": {"type": "boolean"}}}
            }
          }
        }

        """#
}
