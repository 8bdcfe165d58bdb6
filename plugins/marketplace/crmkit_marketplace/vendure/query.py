"""What is asked for. Personal data only as far as records hold it."""

_LINE = """id quantity orderPlacedQuantity unitPriceWithTax linePrice linePriceWithTax
 proratedLinePrice proratedLinePriceWithTax productVariant { id sku name product { id } }"""
_FULFILLMENT = "id state method trackingCode createdAt updatedAt"
_CUSTOMER = "id createdAt updatedAt emailAddress firstName lastName phoneNumber user { verified }"
#: Of an order's history, what tells when it came where it is.
_HISTORY = """history(options: { take: 100, sort: { createdAt: ASC }, filter: { type: { in: [
 "ORDER_STATE_TRANSITION", "ORDER_PAYMENT_TRANSITION", "ORDER_FULFILLMENT_TRANSITION", "ORDER_REFUND_TRANSITION"] } } })
 { items { type createdAt data } }"""

ORDER = f"""id code state type active createdAt updatedAt orderPlacedAt currencyCode
 subTotal subTotalWithTax shipping shippingWithTax total totalWithTax couponCodes
 customer {{ {_CUSTOMER} }}
 shippingAddress {{ fullName company streetLine1 streetLine2 city province postalCode countryCode phoneNumber }}
 lines {{ {_LINE} }} surcharges {{ price }}
 payments {{ id state method amount transactionId createdAt updatedAt
  refunds {{ id state total reason createdAt updatedAt }} }}
 fulfillments {{ {_FULFILLMENT} }} {_HISTORY}
 aggregateOrder {{ id }} sellerOrders {{ id fulfillments {{ {_FULFILLMENT} }} {_HISTORY} }}"""

ORDERS = f"query Orders($o: OrderListOptions) {{ orders(options: $o) {{ totalItems items {{ {ORDER} }} }} }}"
CUSTOMERS = (
    f"query Customers($o: CustomerListOptions) {{ customers(options: $o) {{ totalItems items {{ {_CUSTOMER} }} }} }}"
)
#: The same lists with so little of each row that none fails.
BARE = {
    "orders": """query BareOrders($o: OrderListOptions) { orders(options: $o) {
 totalItems items { id createdAt updatedAt orderPlacedAt } } }""",
    "customers": """query BareCustomers($o: CustomerListOptions) { customers(options: $o) {
 totalItems items { id createdAt updatedAt } } }""",
}
LOGIN = """mutation LogIn($username: String!, $password: String!) {
 login(username: $username, password: $password, rememberMe: true) { __typename ... on ErrorResult { errorCode } } }"""
CHANNEL = "query Channel { activeChannel { id code token } }"
RIGHTS = "query Rights { me { channels { id permissions } } activeChannel { id code } }"
