// oidc-provider, certified by the OpenID Foundation, with one account. `devInteractions` are its own sign-in pages.
import Provider from 'oidc-provider'

const [issuer, redirect] = process.argv.slice(2)
const claims = { preferred_username: 'anna.rossi', groups: ['dialgate-officers'] }
const provider = new Provider(issuer, {
  clients: [{ client_id: 'dialgate', client_secret: 'a-secret-of-the-tests', redirect_uris: [redirect], response_types: ['code'] }],
  pkce: { required: () => true },
  conformIdTokenClaims: false,
  claims: { openid: ['sub'], profile: Object.keys(claims) },
  cookies: { keys: ['a-key-of-the-tests'] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...claims }) }),
})
provider.listen(Number(new URL(issuer).port), '127.0.0.1', () => console.log('ready'))
