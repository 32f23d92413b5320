// Reads block RAM.
module top (input CLK, output ICE_27);
    reg [7:0] m[0:511];
    reg [8:0] a = 0;
    reg [7:0] q;
    always @(posedge CLK) begin
        a <= a + 1;
        q <= m[a];
        if (a == 3) m[a] <= q + 1;
    end
    assign ICE_27 = q[3];
endmodule
